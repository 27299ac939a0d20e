#!/usr/bin/env bash
# Environment of ours and, for asr2.sh, of ESPnet.
. "$(dirname "${BASH_SOURCE[0]}")/../../../local/path.sh"
for espnet_link in utils scripts pyscripts; do
    ln -sfn "${ESPNET_ROOT}/egs2/TEMPLATE/asr1/${espnet_link}" "${espnet_link}"
done
. "${ESPNET_ROOT}/tools/extra_path.sh"
export PYTHONPATH=${EMOQ_ROOT}:${PYTHONPATH:-} PATH=${PWD}/utils:${PATH}
