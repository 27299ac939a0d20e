#!/usr/bin/env bash
# Makes the SYNTHETIC corpus mini_emo, its data directory and five speaker-disjoint folds.
# Run from the recipe's directory, after path.sh.
set -euo pipefail

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (${BASH_SOURCE[0]##*/}:${BASH_LINENO[0]}) $*" >&2; }

help_message="Usage: local/data.sh [--n_speakers 3..16] [--n_sentences 1..20] [--seed 0] [--nj 2]"
n_speakers=10  # half of them female
n_sentences=10 # each said with four emotions by every speaker
seed=0
nj=2           # processes; the files do not depend on it
. parse_options.sh

if [ $# -ne 0 ]; then
    log "${help_message}"
    exit 2
fi
python=${python:-python3}

log "synthetic corpus mini_emo: ${n_speakers} speakers, 4 emotions, ${n_sentences} sentences"
"${python}" local/make_corpus.py --audio_dir downloads/mini_emo --data_dir data \
    --n_speakers "${n_speakers}" --n_sentences "${n_sentences}" --seed "${seed}" --nj "${nj}"
"${python}" -m emoq_plugin.bin.make_folds --data_dir data/all --output data/folds \
    --group_file data/all/spk2gender --n_valid_speakers 1 \
    --n_folds "$((n_speakers < 5 ? n_speakers : 5))"
