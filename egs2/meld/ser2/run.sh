#!/usr/bin/env bash
# MELD (English, series; films need ffmpeg): MELD=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="MELD=\$MELD egs2/meld/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus meld --train_on train+valid \
    --allow_pipe true --multi_channel mean --on_error drop "$@"
