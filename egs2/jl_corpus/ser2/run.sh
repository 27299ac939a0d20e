#!/usr/bin/env bash
# JL-Corpus (New Zealand English, acted, 4 speakers): JL_CORPUS=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="JL_CORPUS=\$JL_CORPUS egs2/jl_corpus/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus jl_corpus --train_on train+valid "$@"
