#!/usr/bin/env bash
# mini_emo (synthetic, made on the spot, no download): ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="egs2/mini_emo/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus mini_emo --synthetic true --minutes 12 --rates "16x1 64x1 64x2" "$@"
