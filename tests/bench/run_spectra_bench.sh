#!/bin/bash
# Singular values of all linear layers of a SmolVLA-shaped checkpoint (random weights): `rankwise spectra` beside
# torch.linalg.svdvals in single precision, CPU seconds of one thread. Also the estimates of the first pass.
# usage: run_spectra_bench.sh BENCH_SMOLVLA RANKWISE PEER_PYTHON [nano|medium|full ...]
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
bench=$1 rankwise=$2 python=$3
shift 3
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

cpu() { # seconds of user and system time of a command
    "$python" -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime)' "$@"
}

for size in "${@:-nano}"; do
    "$bench" make "$work/$size" "$size" f32 1 1 >/dev/null
    coarse=$(cpu "$rankwise" spectra "$work/$size" --coarse --threads 1 --json --out "$work/coarse")
    exact=$(cpu "$rankwise" spectra "$work/$size" --exact --threads 1 --json --out "$work/exact")
    peer=$("$python" "$here/spectra_peer.py" "$work/$size" "$work/exact/pass-exact.safetensors")
    "$python" - "$size" "$coarse" "$exact" "$peer" <<'PY'
import json, sys
size, coarse, exact, peer = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
print(f"{size:8s} {peer['matrices']} matrices  ours {exact:8.2f} s (estimates {coarse:.2f} s)  svdvals {peer['cpu_s']:8.2f} s  "
      f"ratio {exact / peer['cpu_s']:.3f}; off by {peer['worst_ours']:.1e} of sigma_1 (svdvals {peer['worst_single']:.1e}), "
      f"{peer['checked']} checked", flush=True)
PY
    rm -rf "${work:?}/$size" "$work/coarse" "$work/exact"
done
