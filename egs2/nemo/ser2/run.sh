#!/usr/bin/env bash
# nEMO (Polish, acted, 9 speakers): NEMO=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="NEMO=\$NEMO egs2/nemo/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus nemo --train_on train+valid "$@"
