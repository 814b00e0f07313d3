#!/usr/bin/env bash
# Sets up, builds, and passes the tests: the release build, the torch-free parts under the address and
# undefined-behaviour sanitizers, and ten seconds of each fuzz target.
# Usage: bash packaging/test.sh [--release-only]
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

display=()
if [ -z "${DISPLAY:-}" ] && command -v xvfb-run >/dev/null; then
    display=(xvfb-run -a -s "-screen 0 1280x800x24")
fi

# In CI warnings are errors; elsewhere the preset of quickstart.sh, so that nothing is built twice.
preset=$([ -n "${CI:-}" ] && echo ci || echo release)
build_preset "$preset" release
echo "tests of the $preset build:"
"${display[@]}" "$ctest_program" --preset "$preset" 2>&1 | tee -a "$log"

[ "${1:-}" = --release-only ] && exit 0

build_preset asan
echo "tests under the sanitizers:"
"$ctest_program" --preset asan 2>&1 | tee -a "$log"

build_preset fuzz
echo "fuzz targets:"
"$ctest_program" --preset fuzz -L fuzz 2>&1 | tee -a "$log"
