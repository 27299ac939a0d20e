#!/usr/bin/env bash
# Environment of every recipe, on the head node and inside jobs; sourced by path.sh.

EMOQ_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"${EMOQ_ROOT}/local/setup.sh" || exit 1
if [ "${EMOQ_SETUP:-}" != skip ]; then
    PATH=${EMOQ_ROOT}/.venv/bin:${PATH}
    espnet_trees=("${EMOQ_ROOT}"/.venv/espnet-*)
    : "${ESPNET_ROOT:=${espnet_trees[0]}}"
fi
if [ ! -d "${ESPNET_ROOT:-}/egs2/TEMPLATE/asr1/utils" ]; then
    echo "Error: ESPNET_ROOT='${ESPNET_ROOT:-}' is no ESPnet checkout (egs2/TEMPLATE is missing)" >&2
    exit 1
fi
PATH=${ESPNET_ROOT}/egs2/TEMPLATE/asr1/utils:${PATH}
export EMOQ_ROOT ESPNET_ROOT PATH

# One thread a job: jobs share the machine. Sorting must not depend on the language.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export LC_ALL=C PYTHONUTF8=1
