# Sourced by quickstart.sh and test.sh: system packages, wheels, configure, build.
# Every step does nothing when its result is already there, so both scripts may be run again and again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
log="$root/build/log/$(basename "$0" .sh).log"
mkdir -p "$root/build/log"
printf '\n==== %s\n' "$(date '+%F %T')" >>"$log"

# Wheels: LibTorch with its dependencies (elsewhere the same pin may bring a CUDA build, which needs them),
# Arrow and MuJoCo without theirs.
torch_wheel=torch==2.13.0
other_wheels=(pyarrow==26.0.1 mujoco-core==4.0.0)

die() {
    printf 'error: %s\n' "$1" >&2
    [ -s "$log" ] && printf 'The last lines of %s:\n' "$log" >&2 && tail -n 25 "$log" >&2
    exit 1
}

# step TEXT COMMAND...: runs it with its output in the log; prints one line with the time taken.
step() {
    local text=$1 begin=$SECONDS status=0
    shift
    printf '%-46s' "$text"
    printf '\n---- %s\n' "$text" >>"$log"
    "$@" >>"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        printf ' failed after %d s\n' $((SECONDS - begin))
        die "'$text' failed with status $status"
    fi
    printf ' %4d s\n' $((SECONDS - begin))
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

missing_packages() {
    local package
    sed 's/#.*//' "$root/packaging/packages-debian12.txt" | while read -r package; do
        [ -n "$package" ] || continue
        case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) printf '%s\n' "$package" ;;
        esac
    done
}

install_packages() {
    as_root dpkg --configure -a # finishes an installation that was interrupted
    as_root apt-get update
    # shellcheck disable=SC2046
    as_root apt-get install -y --no-install-recommends $(missing_packages)
    [ -z "$(missing_packages)" ]
}

check_system() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        local tool lacking=()
        for tool in g++ cmake ninja pkg-config python3; do
            command -v "$tool" >/dev/null || lacking+=("$tool")
        done
        printf 'This system has no apt. The packages of packaging/packages-debian12.txt are needed under its own names.\n'
        if [ ${#lacking[@]} -gt 0 ]; then
            die "these programs are missing: ${lacking[*]}"
        fi
        return
    fi
    local missing
    missing=$(missing_packages)
    [ -z "$missing" ] && return
    local id=
    [ -r /etc/os-release ] && id=$(. /etc/os-release && printf '%s %s' "${ID:-unknown}" "${VERSION_ID:-}")
    if [ "$id" != "debian 12" ]; then
        printf 'note: made and tested on Debian 12; this is %s, some package names may differ\n' "$id"
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "these packages are missing, and this is neither root nor is there sudo: $(printf '%s ' $missing)"
    fi
    step "install $(printf '%s\n' "$missing" | wc -l) system packages" install_packages
}

# True when LibTorch comes from outside: LIBTORCH, CMAKE_PREFIX_PATH, or an active virtual environment.
has_own_torch() {
    local place
    local prefixes=${CMAKE_PREFIX_PATH:-}
    for place in "${LIBTORCH:-}" ${prefixes//[:;]/ }; do
        [ -n "$place" ] || continue
        [ -e "$place/include/ATen/core/Tensor.h" ] || [ -e "$place/../../include/ATen/core/Tensor.h" ] && return 0
    done
    [ -n "${VIRTUAL_ENV:-}" ] && compgen -G "$VIRTUAL_ENV/lib/python3*/site-packages/torch/include/ATen" >/dev/null
}

install_wheels() {
    local python=$root/.deps/bin/python
    [ -x "$python" ] && "$python" -m pip --version || python3 -m venv --clear "$root/.deps"
    if ! has_own_torch; then
        "$python" -m pip install --disable-pip-version-check "$torch_wheel"
    fi
    "$python" -m pip install --disable-pip-version-check --no-deps "${other_wheels[@]}"
}

check_wheels() {
    local want stamp=$root/.deps/rankwise-wheels
    want="$(has_own_torch && printf 'own torch' || printf '%s' "$torch_wheel") ${other_wheels[*]}"
    [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
    step "install the LibTorch, Arrow and MuJoCo wheels" install_wheels
    printf '%s\n' "$want" >"$stamp"
}

# build_preset NAME [FOLDER]: configures when needed (afresh when another LibTorch is wanted than before), then builds.
build_preset() {
    local preset=$1 folder=$root/build/${2:-$1}
    local choice="$preset LIBTORCH=${LIBTORCH:-} CMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH:-} VIRTUAL_ENV=${VIRTUAL_ENV:-}"
    export CCACHE_NOHASHDIR=1
    if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/choice" 2>/dev/null)" != "$choice" ]; then
        rm -f "$folder/choice"
        step "configure $preset" "$cmake_program" --fresh --preset "$preset"
        printf '%s\n' "$choice" >"$folder/choice"
    fi
    step "build $preset" "$cmake_program" --build --preset "$preset" -j "$(nproc)"
}

cd "$root"
check_system
check_wheels

# The distribution's cmake, not one of a Python environment: the presets are tested with it.
cmake_program=$([ -x /usr/bin/cmake ] && printf /usr/bin/cmake || command -v cmake)
ctest_program=$([ -x /usr/bin/ctest ] && printf /usr/bin/ctest || command -v ctest)
