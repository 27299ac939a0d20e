#!/usr/bin/env bash
# eNTERFACE'05 (English, acted, 44 speakers; films need ffmpeg): ENTERFACE=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="ENTERFACE=\$ENTERFACE egs2/enterface/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus enterface --train_on train+valid \
    --allow_pipe true --multi_channel mean "$@"
