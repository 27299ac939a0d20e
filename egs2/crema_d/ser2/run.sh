#!/usr/bin/env bash
# CREMA-D (English, acted, 91 speakers, votes; some files are silent): CREMA_D=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="CREMA_D=\$CREMA_D egs2/crema_d/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus crema_d --train_on train+valid \
    --on_error drop "$@"
