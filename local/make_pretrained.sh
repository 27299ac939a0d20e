#!/usr/bin/env bash
# Makes the quantizers that come with the package again, emoq_plugin/pretrained/<name>.
#
# Usage: EMODB=<corpus directory> local/make_pretrained.sh [output directory [name ...]]
#   WHISPER=DIR       Whisper base in a directory instead of from the hub
# Another machine or other versions may round otherwise: then tests/test_pretrained.py says
# which facts are new. Ten minutes on one core, most of them Whisper.
set -euo pipefail

if [ -z "${EMODB:-}" ]; then
    echo "Error: EMODB is not set: the directory of EMO-DB, see egs2/README.md" >&2
    exit 2
fi
EMODB=$(cd "${EMODB}" && pwd)
WHISPER=${WHISPER:+$(cd "${WHISPER}" && pwd)}
output=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../emoq_plugin/pretrained}")
shift $(($# > 0))
chosen=" $* "
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. local/path.sh
work=$(mktemp -d)
trap 'rm -r "${work}"' EXIT

emoq prepare-corpus --corpus emodb --corpus_dir "${EMODB}" --output_dir "${work}"
{
    printf 'id\tfile\tspeaker\temotion\n'
    paste <(cut -d' ' -f1 "${work}/all/wav.scp") <(cut -d' ' -f2- "${work}/all/wav.scp") \
        <(cut -d' ' -f2 "${work}/all/utt2spk") <(cut -d' ' -f2 "${work}/all/utt2emo")
} >"${work}/labels.tsv"

# make <name> <options of emoq learn ...>
make() {
    local name=$1 into=${output}/$1
    shift
    [ "${chosen}" = "  " ] || [[ ${chosen} = *" ${name} "* ]] || return 0
    { echo "name: ${name}"; cat conf/card/emodb.yaml; } >"${work}/about.yaml"
    emoq learn . "${work}/labels.tsv" --output "${work}/${name}" --about "${work}/about.yaml" "$@"
    mkdir -p "${output}"
    rm -rf "${into}"
    mv "${work}/${name}" "${into}"
}

make emodb-fbank --features fbank --codebook_size 64
make emodb-fbank-clip --features fbank --codebook_size 16 --norm corpus --clip_bits 56
make emodb-whisper --features whisper_base ${WHISPER:+--model_dir "${WHISPER}"} \
    --codebook_size 16 --norm corpus --clip_bits 56 --router none
