#!/bin/bash
# Dataset writing and reading beside lerobot, on the same frames and files, one after the other; prints ratios.
#
# usage: run_dataset.sh BIN_DIR PEER_PYTHON [EPISODES FRAMES SAMPLES]
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
bin=$1 python=$2 episodes=${3:-2} frames=${4:-150} samples=${5:-300}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
field() { "$python" -c 'import json,sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$1" "$2"; }
ratio() { "$python" -c 'import sys; print(f"{float(sys.argv[1]) / float(sys.argv[2]):.1f} x")' "$1" "$2"; }
row() { printf '%-34s ours %8.2f ms   lerobot %8.2f ms   %s (reach %s)\n' "$1" "$2" "$3" "$(ratio "$3" "$2")" "$4"; }

"$python" "$here/peer_dataset_bench.py" frames "$work/raw" 60
ours=$("$bin/bench_dataset" write "$work/ours" "$episodes" "$frames" "$work/raw")
theirs=$("$python" "$here/peer_dataset_bench.py" write "$work/theirs" "$episodes" "$frames" "$work/raw" | tail -1)
row "write, CPU per frame pair" "$(field "$ours" cpu_ms_per_pair)" "$(field "$theirs" cpu_ms_per_pair)" "8 x"
echo "  bytes of videos: ours $(du -sb "$work/ours/videos" | cut -f1), lerobot $(du -sb "$work/theirs/videos" | cut -f1); our peak memory $(field "$ours" peak_kb) kB"
for dataset in theirs ours; do
    for order in random sequential; do
        ours=$("$bin/bench_dataset" read "$work/$dataset" $order "$samples")
        theirs=$("$python" "$here/peer_dataset_bench.py" read "$work/$dataset" $order "$samples" | tail -1)
        name=$([ $dataset = ours ] && echo "our recording" || echo "lerobot's recording")
        row "read $order, $name" "$(field "$ours" cpu_ms_per_sample)" "$(field "$theirs" cpu_ms_per_sample)" "5 x"
    done
    "$bin/bench_dataset" read "$work/$dataset" random 40 --digest > "$work/digests"
    echo "  equal pictures: $("$python" "$here/peer_dataset_bench.py" compare "$work/$dataset" "$work/digests" | tail -1)"
done
