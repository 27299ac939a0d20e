#!/usr/bin/env bash
# EMO-DB: data/all, data/emotions and speaker-disjoint data/folds from ${EMODB}.
set -euo pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

classes=paper4      # paper4 (angry happy neutral sad) or all (seven)
n_folds=5           # each speaker is tested once
n_valid_speakers=2  # of the other folds, one man and one woman
python=python3

PATH=${PWD}/utils:${PATH}
. parse_options.sh

if [ $# -ne 0 ]; then
    log "Error: no positional argument is expected, found: $*"
    exit 2
fi

if [ -n "${EMOQ_ROOT:-}" ]; then
    . "${EMOQ_ROOT}/local/db.sh"
fi
if [ -z "${EMODB:-}" ]; then
    log "Error: EMODB is not set: it names the directory of the corpus.
The Berlin Database of Emotional Speech (Burkhardt et al. 2005) is free: search for
'EMO-DB' on Zenodo, or take download.zip from its official site, emodb.bilderbar.info.
Unpack it, so that <directory>/wav/03a01Fa.wav exists, and run
    EMODB=<directory> ./run.sh
Stage 1 then reads speaker and emotion from the file names and writes data/all,
data/emotions (--classes paper4: angry happy neutral sad; all: seven) and ${n_folds}
speaker-disjoint folds under data/folds. Audio is neither copied nor changed."
    exit 1
fi
if [ ! -d "${EMODB}" ]; then
    log "Error: EMODB=${EMODB} is not a directory (seen from ${PWD}); expected one with wav/"
    exit 1
fi

${python} local/prepare_emodb.py --corpus "${EMODB}" --classes "${classes}" \
    --output data/all --emotions data/emotions
${python} -m emoq_plugin.bin.make_folds --data_dir data/all --output data/folds \
    --n_folds "${n_folds}" --n_valid_speakers "${n_valid_speakers}" \
    --group_file data/all/spk2gender
${python} -m emoq_plugin.bin.validate_data_dir --data_dir data/all \
    --emotions data/emotions --folds data/folds
log "Successfully finished."
