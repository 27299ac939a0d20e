#!/usr/bin/env bash
# IEMOCAP (English, acted and improvised dialogues, 10 speakers): IEMOCAP=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="IEMOCAP=\$IEMOCAP egs2/iemocap/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus iemocap --train_on train+valid "$@"
