#!/usr/bin/env bash
# One line of exp/experiments: units, then ESPnet's own asr2.sh to a word error rate.
# Usage: local/recognise.sh <number of the line, from 1>
set -euo pipefail

. ./path.sh
read -r name split quantizer system n_levels train valid tests < <(sed -n "$1p" exp/experiments)
asr_exp=exp/asr_${name}_${split}
if [ "${n_levels}" -gt 1 ]; then
    stream=multi
    speeds="0.8 0.9 1.0 1.1 1.2"
else
    stream=single
    speeds="0.9 1.0 1.1"
fi

# 260 pieces are the fewest that hold the units of four experts with 64 codewords each.
../../TEMPLATE/asr2/use_units.sh --quantizer "${quantizer}" --system "${system}" \
    --n_levels "${n_levels}" --sets "${train} ${valid} ${tests}" \
    --asr_exp "${asr_exp}" --src_lang "${name}_${split}" \
    --asr_config "conf/${stream}.yaml" --src_nbpe 260 --speed_perturb_factors "${speeds}"
mapfile -t units <"${asr_exp}/asr2.options"
# Stage 15 of asr2.sh wants sclite; the word error rate is counted here by jiwer.
"${ESPNET_ROOT}/egs2/TEMPLATE/asr2/asr2.sh" --ngpu 0 --nj 1 --inference_nj 1 \
    --use_lm false --tgt_token_type word --train_set "${train}" --valid_set "${valid}" \
    --test_sets "${tests}" --inference_config conf/decode.yaml --stop_stage 14 "${units[@]}"
python3 -m emoq_plugin.bin.asr2_wer --asr_exp "${asr_exp}" --sets "${tests}"
