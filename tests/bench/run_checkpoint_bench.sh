#!/bin/bash
# Start-up of the front, and a full-size SmolVLA checkpoint (500 tensors, 907 MB): inspect, its first table, all its
# tensors beside safetensors.torch.load_file. Best of seven; the file is in the page cache.
# usage: run_checkpoint_bench.sh BIN_FOLDER PEER_PYTHON
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
bin=$1 python=$2
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

"$bin/bench_smolvla" make "$work/policy" full bf16 1 1
file=$work/policy/model.safetensors

best() { # KEY COMMAND...: the answer with the least KEY of seven
    local key=$1
    shift
    for _ in 1 2 3 4 5 6 7; do "$@" 2>/dev/null; done | "$python" -c '
import json, sys
print(json.dumps(min(map(json.loads, sys.stdin), key=lambda row: row[sys.argv[1]])))' "$key"
}

"$python" - "$bin/rankwise" "$file" "$work/policy" <<'PY'
import resource, subprocess, sys, time
program, file, policy = sys.argv[1:]
for label, arguments in (("rankwise --help", ["--help"]), ("rankwise --version", ["--version"]),
                         ("rankwise inspect, 907 MB file", ["inspect", file]),
                         ("rankwise inspect --json, policy folder", ["inspect", policy, "--json"]),
                         ("rankwise inspect --scan, 907 MB file", ["inspect", file, "--scan"])):
    walls, cpus = [], []
    for _ in range(7):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)
        walls.append(time.monotonic() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"{label:42s} {1e3 * min(walls):7.1f} ms wall  {1e3 * min(cpus):7.1f} ms CPU", flush=True)
PY

table=$(best wall_s "$bin/bench_checkpoint" table "$file")
ours=$(best wall_s "$bin/bench_checkpoint" load "$file")
peer=$(best wall_s "$python" "$here/bench_checkpoint_peer.py" "$file")
"$python" - "$table" "$ours" "$peer" "$(stat -c %s "$file")" <<'PY'
import json, sys
table, ours, peer = map(json.loads, sys.argv[1:4])
size = int(sys.argv[4]) / 1e6
assert ours["result"] == peer["result"], "the tensors differ"
print(f"{'first table, 907 MB file':42s} {1e3 * table['wall_s']:7.1f} ms wall  {table['more_mb']:.1f} MB more")
print(f"{'all tensors in memory, ours':42s} {1e3 * ours['wall_s']:7.1f} ms wall  {1e3 * ours['cpu_s']:7.1f} ms CPU"
      f"  {ours['more_mb']:.0f} MB more, {ours['more_mb'] / size:.2f} x file")
print(f"{'all tensors in memory, safetensors':42s} {1e3 * peer['wall_s']:7.1f} ms wall  {1e3 * peer['cpu_s']:7.1f} ms CPU"
      f"  {peer['more_mb']:.0f} MB more, {peer['more_mb'] / size:.2f} x file")
print(f"{'ratio':42s} {ours['wall_s'] / peer['wall_s']:7.2f} wall     {ours['cpu_s'] / peer['cpu_s']:7.2f} CPU")
PY
