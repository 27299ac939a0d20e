#!/usr/bin/env bash
# Emo-Q units for the stock asr2.sh of any ESPnet recipe; run it in egs2/<corpus>/asr2.
set -euo pipefail

if [ $# -eq 0 ] || [ "$1" = --help ]; then
    cat <<HELP
Usage: $0 --quantizer <directory> --sets "<train> <dev> <test> ..." [options]

Discrete recognition on units of Emo-Q in five commands, in a recipe with data/<set>:

  ./run.sh --stage 1 --stop_stage 1      # or however the recipe makes its data
  $0 --quantizer <bank> --system specific-distortion --n_levels 1 \\
      --sets "train dev test" --asr_exp exp/asr_emoq
  mapfile -t units <exp/asr_emoq/asr2.options
  ./run.sh "\${units[@]}" --stop_stage 14
  python3 -m emoq_plugin.bin.asr2_wer --asr_exp exp/asr_emoq --sets test

Several levels (--n_levels 4) need --asr_config <conf/train.yaml of the recipe>, whose
frontend becomes emoq_units. Options of the command that this script runs:
HELP
fi

EMOQ_ROOT=${EMOQ_ROOT:-$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../.." && pwd)}
# The recipe's own environment, which may name no unset variable check.
set +u
. ./path.sh
. ./cmd.sh
set -u
export PYTHONPATH=${EMOQ_ROOT}:${PYTHONPATH:-}

options=()
for option in "$@"; do
    # Lists are one argument here, as in ESPnet's scripts, and several in Python.
    case ${last:-} in
        --sets | --speed_perturb_factors)
            read -ra words <<<"${option}"
            options+=("${words[@]}")
            ;;
        *) options+=("${option}") ;;
    esac
    last=${option}
done
exec "${python:-python3}" -m emoq_plugin.bin.asr2_units "${options[@]}"
