#!/bin/bash
# Upscales a film, or all in a list, on as many nodes as SLURM gives:
#
#   sbatch --nodes=4 slurm.sh upscale film.mkv -s 4 -o film_x4.mkv
#   sbatch --nodes=16 slurm.sh batch films.txt -s 4 -o upscaled/
#
# The job may be killed and submitted again: it goes on where it was.
#SBATCH --job-name=vsr
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail

# where vsr[ray] is installed, on a file system that all nodes see
source "${VSR_VENV:?set VSR_VENV to the folder of the virtual environment}/bin/activate"

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts[0]}
port=$((20000 + SLURM_JOB_ID % 10000))
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}

srun --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --port="$port" --num-cpus="$cpus" --num-gpus="$gpus" --block &
sleep 20
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$head" \
        ray start --address="$head:$port" --num-cpus="$cpus" --num-gpus="$gpus" --block &
    sleep 20
fi

# nodes that come later are used as well
vsr "$@" --cluster "$head:$port"
