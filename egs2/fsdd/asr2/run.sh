#!/usr/bin/env bash
# Spoken digits on discrete units, by ESPnet's own asr2.sh: FSDD=<corpus directory> ./run.sh
set -euo pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

# General
stage=1         # first stage to run
stop_stage=5    # last stage to run
nj=2            # jobs at a time
quantizer=      # exp/<tag>/fold<n>/quantizer of an emotion recipe; made by stage 3 when empty
rate=64x1       # of the table of quantizers, <codebook size>x<levels>
two_scale=32x1+clip18 # rate and bits a clip of two-scale units; empty: none
best_rate=256x4  # of the recognition with several levels
cmd_backend=${cmd_backend:-local}

help_message="Usage: FSDD=<corpus directory> $0 [options]; the options are on top of $0:
$(sed -n '/^# General/,/^cmd_backend=/p' "$0")
EMODB=<corpus directory>: stage 3 takes that corpus instead of the synthetic mini_emo."

# Relative paths are meant from the user's directory.
called_from=${PWD}
command_line=egs2/fsdd/asr2/run.sh
[ $# -eq 0 ] || command_line+=$(printf ' %q' "$@")
for name in FSDD EMODB; do
    if [ -n "${!name:-}" ]; then
        command_line="${name}=\$${name} ${command_line}"
        [ ! -d "${!name}" ] || export "${name}=$(cd "${!name}" && pwd)"
    fi
done
cd "$(dirname "${BASH_SOURCE[0]}")"
log "${command_line}"
. ./path.sh
. parse_options.sh
. ./cmd.sh
if [ $# -ne 0 ]; then
    log "Error: no positional argument is expected, found: $*
${help_message}"
    exit 2
fi
case ${quantizer} in '' | /*) ;; *) quantizer=${called_from}/${quantizer} ;; esac
case ${two_scale} in
    '' | *x*+clip[1-9]*) ;;
    *)
        log "Error: --two_scale ${two_scale}: expected <codebook size>x<levels>+clip<bits>"
        exit 2
        ;;
esac
# At <rate>; below, that of two_scale.
systems="balanced specific-distortion"
two_scale_rate=${two_scale%+*}
two_scale_system=${two_scale:+balanced+${two_scale##*+}}

# check <rate> <systems>: also that the given quantizer has them
check() {
    local checked=(--last_stage 5 --nj "${nj}" --rates "$1 ${best_rate}" --systems "$2"
        --stage "${stage}" --stop_stage "${stop_stage}")
    [ -z "${quantizer}" ] || checked+=(--pack_dir "${quantizer}" --pack_rate "$1")
    python3 -m emoq_plugin.bin.check_options "${checked[@]}"
}
check "${rate}" "${systems}" || exit 2
[ -z "${two_scale}" ] || check "${two_scale_rate}" "${two_scale_system}" || exit 2

# bank <quantizers of a fold> <rate>[+clip<bits>]: the directory that serves it
bank() {
    python3 -c 'import sys
from emoq_plugin.recipe.stages.fold_inputs import BankName, find_bank
bank = BankName.parse(sys.argv[2])
print(find_bank(sys.argv[1], bank.rate, bank.clip_bits))' "$@"
}

runs() { [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ]; }

if runs 1; then
    log "Stage 1: data preparation -> data/"
    local/data.sh
fi

if runs 2; then
    log "Stage 2: codebooks of the digits -> exp/codebooks/fold1/quantizer"
    ../../TEMPLATE/ser2/ser2.sh --corpus fsdd --stage 2 --stop_stage 4 --nj "${nj}" \
        --quantizer_config conf/quantizer/fsdd.yaml --rates "${rate} ${best_rate}" \
        --tag codebooks
fi

emotion=$([ -n "${EMODB:-}" ] && echo emodb || echo mini_emo)
if runs 3 && [ -z "${quantizer}" ]; then
    log "Stage 3: codebooks of emotion -> egs2/${emotion}/ser2/exp/telephone"
    local/emotion.sh --emotion "${emotion}" --nj "${nj}" --rates "${rate} ${two_scale_rate}" \
        --systems "${systems} ${two_scale_system}"
fi
quantizer=${quantizer:-$(cd ../.. && pwd)/${emotion}/ser2/exp/telephone/fold1/quantizer}

if runs 4; then
    log "Stage 4: recognition, asr2.sh of ESPnet -> exp/asr_<name>_<split>"
    seen="train dev test"
    unseen="train_four dev_four test_two"
    mkdir -p exp
    {
        # The longest first.
        own=$(bank exp/codebooks/fold1/quantizer "${best_rate}")
        echo "fsdd_${best_rate} seen ${own} balanced ${best_rate#*x} ${seen}"
        echo "fsdd_${best_rate} unseen ${own} balanced ${best_rate#*x} ${unseen}"
        own=$(bank exp/codebooks/fold1/quantizer "${rate}")
        emotional=$(bank "${quantizer}" "${rate}")
        [ -z "${two_scale}" ] || with_clip=$(bank "${quantizer}" "${two_scale}")
        for split in seen unseen; do
            echo "fsdd_${rate} ${split} ${own} balanced ${rate#*x} ${!split}"
            for system in ${systems}; do
                echo "${system}_${rate} ${split} ${emotional} ${system} ${rate#*x} ${!split}"
            done
            [ -z "${two_scale}" ] || echo "two-scale_${two_scale_rate} ${split}" \
                "${with_clip} ${two_scale_system} ${two_scale_rate#*x} ${!split}"
        done
    } >exp/experiments
    # shellcheck disable=SC2154 # train_cmd is set by cmd.sh
    if ! ${train_cmd} --max-jobs-run "${nj}" JOB=1:"$(wc -l <exp/experiments)" \
        exp/log/recognise.JOB.log local/recognise.sh JOB; then
        log "Error: a recognition failed; what it said last:"
        grep -h -E "ERROR|[Ee]rror" exp/log/recognise.*.log | tail -n 6
        exit 1
    fi
fi

if runs 5; then
    log "Stage 5: word error rates beside emotion -> exp/RESULTS.md"
    python3 local/results.py --experiments exp/experiments \
        --scores "${quantizer}/../../scores.json" --command "${command_line}" \
        --output exp/RESULTS.md
    cat exp/RESULTS.md
fi

log "Successfully finished. [elapsed=${SECONDS}s]"
