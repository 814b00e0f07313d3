#!/bin/bash
# Runs a comparison with a real third-party library, or says why not: exit code 77 is a skipped test.
#
# usage: run_peer.sh MODULE[,MODULE...] COMMAND ARGUMENT...
# RANKWISE_PEER_PYTHON names the interpreter (default python3); COMMAND `python` is that interpreter, and other programs
# find it in the same variable.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
modules=$1
shift
python=${RANKWISE_PEER_PYTHON:-python3}
remedy="set RANKWISE_PEER_PYTHON to a Python that has ${modules//,/, }"
problem=$("$python" -c '
import importlib, sys
for name in sys.argv[1].split(","):
    try:
        importlib.import_module(name)
        if name == "lerobot":
            importlib.import_module("lerobot.datasets.lerobot_dataset")
    except Exception as error:
        print(f"has no working {name} ({error})")
        break' "$modules" 2>/dev/null) || problem="does not run"
if [ -n "$problem" ]; then
    echo "skipped: $python $problem; $remedy"
    exit 77
fi
export RANKWISE_PEER_PYTHON=$python HF_HUB_OFFLINE=1
if [ "$1" = python ]; then
    shift
    exec "$python" "$@"
fi
exec "$@"
