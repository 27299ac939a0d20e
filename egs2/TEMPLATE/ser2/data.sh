#!/usr/bin/env bash
# Stage 1 of a recipe: local/data.sh [path] [options of prepare_corpus or data_from_csv]
# The path is by default the variable that bears the recipe's name, see local/db.sh.
set -euo pipefail

log() { echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${BASH_SOURCE[0]##*/}:${BASH_LINENO[0]}) $*" >&2; }

. ./path.sh
. "${EMOQ_ROOT}/local/db.sh"
corpus=$(basename "$(cd .. && pwd)")
variable=$(tr '[:lower:]' '[:upper:]' <<<"${corpus}")
place=${!variable:-}
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
    place=$1
    shift
fi
if [ -z "${place}" ]; then
    # It says what the corpus looks like and where to get it.
    log "Error: no path of ${corpus}: set ${variable} in local/db.sh or in the environment"
    python3 -m emoq_plugin.bin.prepare_corpus --corpus "${corpus}" --corpus_dir "" || true
    exit 1
fi

# A relative path is meant from the user's directory.
absolute() {
    case $1 in /* | download | '') echo "$1" ;; *) echo "${called_from:-${PWD}}/$1" ;; esac
}

place=$(absolute "${place}")
case ${place,,} in
    *.csv | *.tsv | *.txt | *.xlsx | *.xls | *.ods) # the last three are named and refused
        python3 -m emoq_plugin.bin.data_from_csv --csv "${place}" --corpus "${corpus}" "$@"
        ;;
    *)
        votes=
        [ "${corpus}" != crema_d ] || votes=$(absolute "${CREMA_D_VOTES}")
        python3 -m emoq_plugin.bin.prepare_corpus --corpus "${corpus}" \
            --corpus_dir "${place}" ${votes:+--vote_table "${votes}"} "$@"
        ;;
esac
allow_pipe=$(grep -q '|$' data/all/wav.scp && echo true || echo false)
python3 -m emoq_plugin.bin.validate_data_dir --data_dir data/all \
    --emotions data/emotions --folds data/folds --allow_pipe "${allow_pipe}"
log "Successfully finished."
