#!/usr/bin/env bash
# FSDD: data/<set>/{wav.scp,text,utt2spk,spk2utt} from ${FSDD}; audio is not copied.
set -euo pipefail

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (${BASH_SOURCE[0]##*/}:${BASH_LINENO[0]}) $*" >&2; }

# The two that come last in the alphabet, fixed before any result was seen.
unseen_speakers="theo yweweler"
# 0-4 are the corpus's own test recordings; these are of the training speakers.
valid_recordings="45 46 47 48 49"
. parse_options.sh

if [ $# -ne 0 ]; then
    log "Error: no positional argument is expected, found: $*"
    exit 2
fi
if [ ! -d "${FSDD:-}/recordings" ]; then
    log "Error: FSDD='${FSDD:-}' has no directory recordings/. The Free Spoken Digit Dataset
(3000 recordings, 6 speakers, CC BY-SA 4.0) is github.com/Jakobovski/free-spoken-digit-dataset:
    FSDD=<directory> egs2/fsdd/asr2/run.sh"
    exit 1
fi

python3 local/prepare_fsdd.py --corpus "${FSDD}" --output data \
    --unseen_speakers ${unseen_speakers} --valid_recordings ${valid_recordings}
for directory in data/*/wav.scp; do
    log "$(dirname "${directory}"): $(wc -l <"${directory}") recordings"
done
