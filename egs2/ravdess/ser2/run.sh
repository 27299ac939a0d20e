#!/usr/bin/env bash
# RAVDESS (English, acted, 24 speakers; a few files are stereo): RAVDESS=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="RAVDESS=\$RAVDESS egs2/ravdess/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus ravdess --train_on train+valid \
    --multi_channel mean "$@"
