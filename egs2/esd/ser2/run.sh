#!/usr/bin/env bash
# ESD (English, acted, 10 speakers): ESD=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="ESD=\$ESD egs2/esd/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus esd --train_on train+valid "$@"
