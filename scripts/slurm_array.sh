#!/usr/bin/env bash
# A folder of pictures on a SLURM cluster, one GPU for each task of an array, without Ray:
#
#     sbatch --array=1-8 scripts/slurm_array.sh FOLDER OUT [options of pulse upscale]
#
# Each task does its own part of the pictures and writes to OUT/shard-K-of-N; afterwards
# `pulse report OUT/shard-*` shows them as one. A task that runs out of time is asked to end a minute
# before, keeps its finished faces, and goes on where it was when the same command is given again.
#SBATCH --job-name=pulse
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=pulse-%A-%a.log
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: sbatch --array=1-N $0 FOLDER OUT [options of pulse upscale]" >&2
    exit 2
fi
folder=$1 out=$2
shift 2
shard=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1)) shards=$SLURM_ARRAY_TASK_COUNT

# exec: SLURM's signals reach pulse itself
exec pulse upscale "$folder" -o "$out/shard-$shard-of-$shards" --shard "$shard/$shards" "$@"
