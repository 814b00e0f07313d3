#!/bin/bash
# Remakes the nano policy of resources/nano in a folder of its own: demonstrations of another arm seen by two front
# cameras, about an hour of full fine-tuning from random weights on one core, and the export. Started again it goes on.
#
#   bash resources/recipes/nano_base.sh FOLDER [RANKWISE]
#
# The shipped weights come from these commands with two differences: the learning rate followed a cosine to 14,000
# steps up to step 7,375 and one to 10,000 from there, and videos had half the chroma resolution.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
recipes=$(cd "$(dirname "$0")" && pwd)
rankwise=$(readlink -f "${2:-$recipes/../../build/release/bin/rankwise}")
cd "$out"
sed "s#\"\.\./nano\"#\"$recipes/../nano\"#" "$recipes/nano_base.json" > nano_base.json
[ -e base-demos/meta/info.json ] && resume_demos=--resume || resume_demos=
"$rankwise" sim record --task open_pot,pour_block,press_button,pick_place --episodes 1200 --seed 300 \
    --arm generic --front-camera both --labels --chroma full --crf 20 --out base-demos $resume_demos
[ -e base-run/run.json ] && resume=--resume || resume=
OMP_NUM_THREADS=1 "$rankwise" train nano_base.json --run base-run $resume
rm -rf nano
"$rankwise" export --policy base-run --precision bf16 --out nano
cp -r "$recipes/../nano/tokenizer" nano/
"$rankwise" eval --policy nano --task open_pot,pour_block,press_button,pick_place --episodes 200 --seed 4242 \
    --arm generic --front-camera both
