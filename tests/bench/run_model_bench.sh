#!/bin/bash
# Ours beside lerobot: CPU seconds of sampling and of training steps, one thread, the same random weights and inputs.
# usage: run_model_bench.sh BENCH_SMOLVLA PEER_PYTHON [nano|medium|full ...]
# The peer loads the checkpoint that ours wrote, strictly, and compares the actions.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
bench=$1 python=$2
shift 2
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE

line() { # label ours peer
    "$python" - "$1" "$2" "$3" <<'PY'
import json, sys
label, ours, peer = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
extra = ""
if "largest_difference" in peer:
    extra = f"  actions differ by {peer['largest_difference']:.2e} of {peer['peak']:.2f}"
if "first_loss" in peer:
    extra = f"  loss {ours['first_loss']:.5f}/{peer['first_loss']:.5f} -> {ours['last_loss']:.5f}/{peer['last_loss']:.5f}"
print(f"{label:32s} ours {ours['cpu_s']:9.4f} s  peer {peer['cpu_s']:9.4f} s  ratio {ours['cpu_s'] / peer['cpu_s']:.3f}{extra}", flush=True)
PY
}

for size in "${@:-nano}"; do
    repeats=5 steps=12
    [ "$size" = full ] && repeats=2
    for precision in f32 bf16; do
        folder=$work/$size-$precision
        "$bench" make "$folder" "$size" "$precision" 1 1
        ours=$("$bench" sample "$folder" "$precision" "$repeats")
        peer=$("$python" "$here/bench_smolvla_peer.py" sample "$folder" "$precision" "$repeats" 2>/dev/null | tail -1)
        line "$size sample $precision" "$ours" "$peer"
        rm -rf "$folder"
    done
    [ "$size" = full ] && steps=3
    for what in config all lora; do
        folder=$work/$size-train
        [ "$size" = full ] && [ "$what" != lora ] && continue
        "$bench" make "$folder" "$size" f32 "$([ "$size" = full ] && echo 2 || echo 8)" 2
        ours=$("$bench" train "$folder" "$what" "$steps")
        peer=$("$python" "$here/bench_smolvla_peer.py" train "$folder" "$what" "$steps" 2>/dev/null | tail -1)
        line "$size train, $what" "$ours" "$peer"
        rm -rf "$folder"
    done
done
