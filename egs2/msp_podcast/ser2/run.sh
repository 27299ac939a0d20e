#!/usr/bin/env bash
# MSP-Podcast (English, spontaneous, votes): MSP_PODCAST=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="MSP_PODCAST=\$MSP_PODCAST egs2/msp_podcast/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

./ser2.sh --corpus msp_podcast "$@"
