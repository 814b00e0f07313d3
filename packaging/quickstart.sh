#!/usr/bin/env bash
# Sets up, builds, and runs the main job on the embedded default: record demos, fine-tune, evaluate, report.
# Usage: bash packaging/quickstart.sh [options of `rankwise demo`]
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

build_preset release
exec "$root/build/release/bin/rankwise" demo --out "$root/build/demo" "$@"
