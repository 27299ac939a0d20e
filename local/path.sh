#!/usr/bin/env bash
# Environment of every recipe, on the head node and inside jobs; sourced by path.sh.

EMOQ_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A job knows only the PATH of the head node, so EMOQ_SETUP=skip travels in it, as the name
# of a directory that need not exist.
espnet_utils=/egs2/TEMPLATE/asr1/utils
skipped=${EMOQ_ROOT}/local/setup-skipped
if [[ :${PATH}: = *:${skipped}:* ]]; then
    export EMOQ_SETUP=skip
    run_pl=$(command -v run.pl || true)
    ESPNET_ROOT=${ESPNET_ROOT:-${run_pl%"${espnet_utils}"/run.pl}}
fi
"${EMOQ_ROOT}/local/setup.sh" || exit 1
if [ "${EMOQ_SETUP:-}" = skip ]; then
    PATH=${PATH}:${skipped}
else
    PATH=${EMOQ_ROOT}/.venv/bin:${PATH}
    espnet_trees=("${EMOQ_ROOT}"/.venv/espnet-*)
    : "${ESPNET_ROOT:=${espnet_trees[0]}}"
fi
if [ ! -d "${ESPNET_ROOT:-}${espnet_utils}" ]; then
    echo "Error: ESPNET_ROOT='${ESPNET_ROOT:-}' is no ESPnet checkout (egs2/TEMPLATE is missing);" \
        "with EMOQ_SETUP=skip set it, or without ESPnet use \`emoq\` of your environment" >&2
    exit 1
fi
PATH=${ESPNET_ROOT}${espnet_utils}:${PATH}:${ESPNET_ROOT}/utils # stdout.pl is in the last
export EMOQ_ROOT ESPNET_ROOT PATH

# One thread a job: jobs share the machine. Sorting must not depend on the language.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export LC_ALL=C PYTHONUTF8=1

# From Slurm 22.05 on, srun does not take over sbatch's number of CPUs by itself.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK}

# SIGTERM goes to all processes of a Slurm job: its shell waits for the others and logs how
# they ended. If it ended first, Slurm would kill them in the middle of a pass.
if [ "${0##*/}" = slurm_script ]; then
    trap : TERM
fi
