#!/usr/bin/env bash
# A folder of pictures on every GPU of one machine, without Ray:
#
#     scripts/workstation.sh FOLDER OUT [options of pulse upscale]
#
# One process for each GPU (PROCESSES=N for another number, such as on a machine without any) does
# its own part of the pictures and writes to OUT/shard-K-of-N; afterwards `pulse report OUT/shard-*`
# shows them as one. Ctrl-C ends them all; the same command again goes on where they were.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 FOLDER OUT [options of pulse upscale]" >&2
    exit 2
fi
folder=$1 out=$2
shift 2
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
processes=${PROCESSES:-$((gpus > 0 ? gpus : 1))}

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM
for ((shard = 1; shard <= processes; shard++)); do
    if ((gpus > 0)); then
        export CUDA_VISIBLE_DEVICES=$(((shard - 1) % gpus))
    fi
    pulse upscale "$folder" -o "$out/shard-$shard-of-$processes" --shard "$shard/$processes" "$@" &
    pids+=($!)
done

worst=0
for pid in "${pids[@]}"; do
    status=0
    wait "$pid" || status=$?
    while kill -0 "$pid" 2>/dev/null; do # a signal to this script ends `wait`, not the process
        status=0
        wait "$pid" || status=$?
    done
    worst=$((status > worst ? status : worst))
done
exit "$worst"
