#!/usr/bin/env bash
# Sets up, builds, and passes the tests. With --sanitizers also the torch-free parts under the address and
# undefined-behaviour sanitizers, and ten seconds of each fuzz target.
# Usage: bash packaging/test.sh [--sanitizers]
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# A display for tests that open windows, where there is none.
display=()
if [ -z "${DISPLAY:-}" ] && command -v xvfb-run >/dev/null; then
    display=(xvfb-run -a -s "-screen 0 1280x800x24")
fi

# In CI warnings are errors; elsewhere the preset of quickstart.sh, so that nothing is built twice.
preset=$([ -n "${CI:-}" ] && echo ci || echo release)
build_preset "$preset" release
echo "tests of the $preset build:"
"${display[@]}" "$ctest_program" --preset "$preset" 2>&1 | tee -a "$log"

[ "${1:-}" = --sanitizers ] || exit 0

build_preset asan
echo "tests under the sanitizers:"
"$ctest_program" --preset asan 2>&1 | tee -a "$log"

build_preset fuzz
echo "fuzz targets:"
"$ctest_program" --preset fuzz -L fuzz 2>&1 | tee -a "$log"
