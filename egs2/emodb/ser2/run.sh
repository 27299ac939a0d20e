#!/usr/bin/env bash
# EMO-DB (German, acted, 10 speakers): EMODB=<corpus directory> ./run.sh
set -euo pipefail

export called_from=${PWD}
export recipe_command="EMODB=\$EMODB egs2/emodb/ser2/run.sh"

# Stage 7: phones are the control of content; their directory has two names.
for place in lablaut phones; do
    [ ! -d "${EMODB:-}/${place}" ] || alignments=$(cd "${EMODB}/${place}" && pwd)
done
export alignments=${alignments:-}
cd "$(dirname "${BASH_SOURCE[0]}")"
export study_config=emodb
defaults=()
if [[ " $* " = *" --feature_config "*whisper* ]]; then
    # A pretrained encoder: nothing of a clip is removed, and the study is that of two-scale units.
    export study_config=whisper
    defaults=(--quantizer_config corpus --rates "16x1 64x1 64x4" --ser_backend probe
        --systems "balanced specific-distortion specific-calibrated balanced+clip56 clip56 label")
fi

./ser2.sh --corpus emodb --minutes 16 --train_on train+valid "${defaults[@]}" "$@"
