#!/bin/bash
# Adapters: LoRA-SP beside LoRA in a training step, PARA of a whole adapter, and PARA of one matrix beside peft's.
# usage: run_adapter_bench.sh BIN_DIR PEER_PYTHON
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
bin=$1 python=$2
here=$(dirname "$(readlink -f "$0")")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE

echo "training step, nano policy (reach: LoRA-SP at most 1.25 x LoRA)"
"$bin/bench_adapters" steps 8 12
echo "PARA of LoRA r = 32 on every linear layer of SmolVLA 450 M, all cores (reach: 0.5 s)"
OMP_NUM_THREADS=$(nproc) "$bin/bench_adapters" para
echo "one 2048 x 2048 update (reach: 1000 x)"
ours=$("$bin/bench_adapters" dense)
peer=$("$python" "$here/bench_para_peer.py" 2>/dev/null | tail -1)
echo "  $ours"
"$python" - "$ours" "$peer" <<'PY'
import json, re, sys
thin = float(re.search(r"thin path \(double\) ([0-9.]+) ms", sys.argv[1]).group(1)) / 1e3
peer = json.loads(sys.argv[2])["seconds"]
print(f"  ours {thin * 1e3:.2f} ms, peft's add_weighted_adapter(svd) {peer:.2f} s: {peer / thin:.0f} x")
PY
