#!/usr/bin/env bash
# An emotion recipe at the bandwidth of FSDD (8 kHz): its quantizers and their scores.
set -euo pipefail

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (${BASH_SOURCE[0]##*/}:${BASH_LINENO[0]}) $*" >&2; }

emotion=mini_emo # recipe in egs2
nj=2
rates=64x1
systems="balanced specific-distortion"
. parse_options.sh

cd "../../${emotion}/ser2"
# Stage 2 at 8 kHz and once more at the encoder's 16 kHz: the upper band is empty then,
# as it is in FSDD.
./run.sh --stage 1 --stop_stage 2 --nj "${nj}" --sample_rate 8000 --dumpdir dump/telephone8k
python3 -m emoq_plugin.bin.format_data --data_dir dump/telephone8k/raw/all \
    --emotions data/emotions --output_dir dump/telephone/raw/all --sample_rate 16000 \
    --nj "${nj}"
# The speaker's mean is removed, which also takes the other corpus's microphones away.
./run.sh --stage 3 --stop_stage 6 --nj "${nj}" --dumpdir dump/telephone --tag telephone \
    --quantizer_config ../../../conf/quantizer/speaker.yaml --rates "${rates}" \
    --systems "${systems}" --ser_backend probe
log "egs2/${emotion}/ser2/exp/telephone"
