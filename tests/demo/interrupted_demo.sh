#!/bin/bash
# `rankwise demo --quick` stopped while it records, trains and rolls out, and killed once: what is there stays readable,
# the same command goes on, and the outcome is that of a demo that nobody stopped.
#
# usage: interrupted_demo.sh RANKWISE FOLDER
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
rankwise=$1 folder=$2
rm -rf "$folder"
mkdir -p "$folder"

# The interrupted demo first: with a wrong resume there is no need for the other.
out=$folder/stopped
interrupted() { # signal expected-exit-code what condition...
    local signal=$1 code=$2 what=$3 status=0
    shift 3
    "$rankwise" demo --quick --headless --out "$out" > "$folder/log.$what" 2>&1 &
    local demo=$!
    for _ in $(seq 6000); do
        "$@" && break
        kill -0 "$demo" 2>/dev/null || { cat "$folder/log.$what"; echo "FAILED: ended before $what"; exit 1; }
        sleep 0.05
    done
    kill -"$signal" "$demo"
    wait "$demo" || status=$?
    [ "$status" = "$code" ] || { cat "$folder/log.$what"; echo "FAILED: exit code $status while $what"; exit 1; }
    [ -e "$out/report.html" ] && { echo "FAILED: a report after $what"; exit 1; }
    # Readable by everybody else: the dataset, each run, each rollout but a torn last line.
    if [ -e "$out/dataset/meta/info.json" ]; then
        "$rankwise" dataset check "$out/dataset" > "$folder/check.$what" 2>&1 || { cat "$folder/check.$what"; exit 1; }
    fi
    for run in "$out"/runs/*/; do
        [ ! -e "$run/run.json" ] || "$rankwise" inspect "$run" > /dev/null
    done
    echo "$what: exit code $status, everything readable"
}
episodes() { grep -o '"total_episodes": *[0-9]*' "$out/dataset/meta/info.json" 2>/dev/null | grep -o '[0-9]*$' || echo 0; }
recorded() { [ "$(episodes)" -ge "$1" ]; }
trained() { ls "$out/runs/lora_sp/checkpoints" 2>/dev/null | grep -q step-; }
rolled() { [ "$(cat "$out"/rollouts/*.jsonl 2>/dev/null | wc -l)" -ge "$1" ]; }

interrupted TERM 130 recording recorded 4
first=$(episodes)
interrupted KILL 137 recording-on recorded $((first + 3))
interrupted TERM 130 training trained
steps=$(wc -l < "$out/runs/lora_sp/events.jsonl")
interrupted KILL 137 rollouts rolled 3
[ "$(wc -l < "$out/runs/lora_sp/events.jsonl")" -gt "$steps" ] || { echo "FAILED: training began anew"; exit 1; }
before=$(cat "$out"/rollouts/*.jsonl | wc -l)
interrupted TERM 130 more-rollouts rolled $((before + 3))
"$rankwise" demo --quick --headless --out "$out" > "$folder/log.end" 2>&1 || { cat "$folder/log.end"; exit 1; }

"$rankwise" demo --quick --headless --out "$folder/whole" > "$folder/log.whole" 2>&1 || { cat "$folder/log.whole"; exit 1; }
outcome() { grep -v '"seconds"\|"policy_seconds"' "$1/results.json"; }
cmp <(outcome "$out") <(outcome "$folder/whole") || { echo "FAILED: another outcome than without stops"; exit 1; }
for method in lora_sp lora; do
    for file in "$folder/whole/runs/$method"/checkpoints/*/adapter_model.safetensors; do
        cmp "$file" "${file/$folder\/whole/$out}" || { echo "FAILED: other weights"; exit 1; }
    done
done
echo "five interruptions: the outcome of an undisturbed demo, to the bit"
