# Of ser2.sh: how long stages take, took, and will take. Sourced.
# shellcheck shell=bash disable=SC2154 # options are those of ser2.sh

seconds=${exp}/seconds.txt # of the stages that ended here
running='' took='' known='' estimated=''
most() { awk -v a="$1" -v b="$2" '$2 > m[$1] { m[$1] = $2 }
    END { for (s = a; s <= b; s++) { if (!(s in m)) exit; t += m[s] } print t }' "${seconds}"; }

# runs <n> <what it does>: whether stage n is to run; says so
runs() {
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] || return 1
    ended
    running=$1 began=${SECONDS}
    local before
    before=$(most "$1" "$1" 2>/dev/null || true)
    log "Stage $1: $2${before:+ (at most ${before} s before)}"
}

# ended: notes how long the stage took that runs
ended() {
    [ -n "${running}" ] || return 0
    took+="${took:+, }stage ${running}: $((SECONDS - began)) s"
    mkdir -p "${exp}"
    echo "${running} $((SECONDS - began))" >>"${seconds}"
    log "Stage ${running} took $((SECONDS - began)) s"
    running=''
}

count_folds() { find -L data/folds -mindepth 1 -maxdepth 1 -type d -regex '.*/[0-9]+' | wc -l; }

# say_duration <stage>: of the stages from here on, by earlier runs or else by a measured one
say_duration() {
    local first=$1 last=${stop_stage}
    [ "${first}" -le "${last}" ] || return 0
    known=$(most "${first}" "${last}" 2>/dev/null || true)
    if [ -n "${known}" ]; then
        log "stages ${first} to ${last}: at most ${known} s in earlier runs"
        return
    fi
    first=$((first > 3 ? first : 3)) last=$((last < 6 ? last : 6))
    [ "${first}" -gt "${last}" ] || estimate "${first}" "${last}"
}

# estimate <first> <last stage>, 3 to 6: linear in what there is. Seconds of one core that
# ./run.sh took on an AMD EPYC beside other work, for a minute of speech.
estimate() {
    local folds counted=${raw}/utt2num_samples speech=${minutes} cost=0 conditions text
    [ ! -e "${counted}" ] ||
        speech=$(awk -v hz="${sample_rate}" '{ n += $2 } END { print n / hz / 60 }' "${counted}")
    [ -n "${speech}" ] || return 0
    folds=${last_fold:-$(count_folds 2>/dev/null || true)}
    folds=$((folds ? folds - first_fold + 1 : 5)) # as most corpora have
    conditions=$(($(wc -w <<<"${systems}") * $(wc -w <<<"${rates}")))
    for part in $(seq "$1" "$2"); do
        case ${part} in
            3) cost+="+1.5" ;;
            4) cost+="+.075*${folds}*${conditions}" ;;
            5) cost+="+.026*${folds}*${conditions}" ;;
            6)
                [[ " ${ser_backend} " != *" probe "* ]] || cost+="+.052*${folds}*${conditions}"
                [[ " ${ser_backend} " != *" espnet "* ]] ||
                    cost+="+1.9*${folds}*$(wc -w <<<"${espnet_systems}")"
                ;;
        esac
    done
    cost=$(awk "BEGIN { print int((${cost}) * ${speech} / 60 / ${nj} + 1) }")
    text="stages $1 to $2, never run here: about ${cost} min if each of ${nj} jobs has a core"
    text+=" like those of an AMD EPYC ($(printf %.0f "${speech}") min of speech, ${folds} folds,"
    text+=" ${conditions} conditions; measured with log-mel: a pretrained encoder takes longer)"
    [ "${text}" = "${estimated}" ] || log "${text}"
    estimated=${text}
}
