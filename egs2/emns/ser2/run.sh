#!/usr/bin/env bash
# EMNS (English, acted, one speaker; WebM files need ffmpeg): EMNS=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="EMNS=\$EMNS egs2/emns/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus emns --train_on train+valid \
    --allow_pipe true --multi_channel mean "$@"
