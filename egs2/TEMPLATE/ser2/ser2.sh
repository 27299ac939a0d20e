#!/usr/bin/env bash
# Speech emotion recognition on discrete units: the stages of every ser2 recipe.
set -euo pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

# General
corpus=          # name shown with every number
synthetic=false  # true: no human spoke the corpus
stage=1          # first stage to run
stop_stage=6     # last stage to run
cmd_backend=${cmd_backend:-local} # local, stdout, sge, pbs, slurm or ssh
# shellcheck disable=SC2034 # read by cmd.sh
cmd_opts=${cmd_opts:-} # further options of every job, such as "--mem 8G --time 24:00:00"
nj=2             # jobs at a time
ngpu=0           # GPUs of a job (features and the ESPnet task)
python=python3
dumpdir=dump
expdir=exp
set_name=all     # data/<set_name>
minutes=         # of speech, about; stage 2 counts it
first_fold=1     # folds to run ...
last_fold=       # ... all when empty

# Stages 1-2, data
local_data_opts= # passed to local/data.sh; values with blanks in quotes
sample_rate=16000
min_seconds=0.1
max_seconds=60
on_error=stop    # or drop: leave out unreadable, NaN, empty and silent audio
multi_channel=error # or first, mean
allow_pipe=false # true: run the commands of a wav.scp

# Stage 3, features
feature_config=  # path or name of conf/features; default: fbank
model_dir=       # local model directory instead of the config's model

# Stages 4-5, quantizers and units
quantizer_config= # path or name of conf/quantizer; default: level
rates="2x4 16x1 64x1 64x2 64x4" # <codebook size>x<levels>
# Stage 4 learns only the experts that the systems need. A rate or a system that is added later
# keeps what is there.
systems="balanced specific-cosine specific-gain specific-distortion specific-linear"
systems+=" specific-calibrated specific-soft"
systems+=" biased95-distortion capacity-distortion"
systems+=" specific-oracle specific-random specific-wrong"
route_depth=1    # levels that routers look at
subwords=0       # stage 5: sequences of units that become subwords
crossfit=0       # parts: training clips are routed by experts that did not see them
learn_nodes=1    # nodes that share the frames of one job of stage 4 (slurm)
learn_procs=1    # processes on each of them
train_on=train   # or train+valid: learn from validation speakers too
seed=0           # of the control routes and the ESPnet task

# Stage 6, emotion recognition
ser_backend="probe espnet"
probe_config=    # path or name of conf/ser; default: probe
ser_config=      # path or name of conf/ser; default: transformer
ser_args=        # further options of ESPnet's trainer
espnet_rate=64x1
espnet_systems="balanced specific-distortion"

# Stages 7-8, study and report (run with --stop_stage 8)
study_config=${study_config:-} # path or name of conf/study; default: quick
study_only=      # jobs with this in their name, such as level-s0/fold1
alignments=${alignments:-} # phone labels (a directory or a file), for the control of content

# Stage 9, an artifact to share (runs with --stop_stage 9)
pack_rate=64x1
pack_system=specific-distortion
pack_fold=1      # fold whose codebooks are taken; all: learn on every speaker, test on none

tag=             # name of the experiment; default: <feature>_<quantizer>

help_message="Usage: $0 --corpus <name> [options]; the options are on top of $0:
$(sed -n '/^# General/,/^tag=/p' "$0")"

# As it can be pasted.
command_line=${recipe_command:-$(printf %q "$0")}
[ $# -eq 0 ] || command_line+=$(printf ' %q' "$@")
log "${command_line}"
given=("$@")
. ./path.sh
literal=()
for word in "$@"; do # parse_options.sh has them evaluated in double quotes
    literal+=("$(sed 's/["\\$`]/\\&/g' <<<"${word}")")
done
set -- ${literal[@]+"${literal[@]}"}
. parse_options.sh
. ./cmd.sh

if [ $# -ne 0 ] || [ -z "${corpus}" ]; then
    log "Error: expected --corpus and no positional argument, found: $*
${help_message}"
    exit 2
fi

conf=${EMOQ_ROOT}/conf
feature_config=${feature_config:-fbank}
quantizer_config=${quantizer_config:-level}
probe_config=${probe_config:-probe}
ser_config=${ser_config:-transformer}
study_config=${study_config:-quick}
for name in model_dir alignments; do
    # shellcheck disable=SC2154 # called_from is set by run.sh
    if [[ ${!name} = [!/]* ]] && [ -e "${called_from:-${PWD}}/${!name}" ]; then
        printf -v "${name}" %s "${called_from:-${PWD}}/${!name}"
    fi
done
feature=$(basename "${feature_config}" .yaml)
tag=${tag:-${feature}_$(basename "${quantizer_config}" .yaml)}

# Everything that can be wrong with the options is reported here, before any work.
packed_from=${expdir}/${tag}/fold${pack_fold}/quantizer
[ "${pack_fold}" != all ] || packed_from=${expdir}/${tag}/all/quantizer
checked=()
for name in corpus stage stop_stage nj ngpu set_name minutes first_fold last_fold sample_rate \
    min_seconds max_seconds on_error multi_channel feature_config model_dir \
    quantizer_config rates systems route_depth crossfit subwords learn_nodes learn_procs cmd_backend \
    train_on seed ser_backend probe_config ser_config ser_args espnet_rate espnet_systems \
    study_config alignments pack_rate pack_system pack_fold tag; do
    checked+=("--${name}=${!name}")
done
# Configurations are paths as the user, this recipe or the repository sees them, or names of
# presets; what is printed sets them to the files that were found.
# shellcheck disable=SC2086
found=$(${python} -m emoq_plugin.bin.check_options "${checked[@]}" --pack_dir "${packed_from}") ||
    exit 2
eval "${found}"

raw=${dumpdir}/raw/${set_name}
features=${dumpdir}/${feature}/${set_name}
units=${dumpdir}/units/${tag}
exp=${expdir}/${tag}
study_dir=${expdir}/study_$(basename "${study_config}" .yaml)
emotions=data/emotions
device=$([ "${ngpu}" -gt 0 ] && echo cuda || echo cpu)
gpu_opts=$([ "${ngpu}" -gt 0 ] && echo "--gpu ${ngpu}" || true)
# A step of a job, even of one process, gets sbatch's --signal: for what learns codebooks.
step=$([ "${cmd_backend}" = slurm ] && echo "srun --export=ALL" || true)

. "${EMOQ_ROOT}/egs2/TEMPLATE/ser2/durations.sh"

# watch_jobs <first> <last> <log with JOB>: every few seconds what the jobs at work say last
watch_jobs() {
    local first=$1 last=$2 name=$3 begin=${EPOCHSECONDS} shown='' now file job line
    while sleep 5 3>&- && kill -0 $$; do
        now=
        for job in $(seq "${first}" "${last}"); do
            file=${name/JOB/${job}}
            # Not of an earlier run, not of a job that has ended.
            [ "$(stat -c %Y "${file}" || echo 0)" -ge "${begin}" ] || continue
            ! grep -q '^# Ended' "${file}" || continue
            line=$(sed -n 's/.* INFO: //p' "${file}" | tail -n 1)
            [ -z "${line}" ] || now+="; job ${job}: ${line:0:90}"
        done
        [ -z "${now}" ] || [ "${now}" = "${shown}" ] || log "${now:2:400}" >&3
        shown=${now}
    done
}

# watched <first> <last> <log with JOB> <command ...>: runs the command while jobs are watched
watched() {
    local watcher status=0
    watch_jobs "$1" "$2" "$3" 3>&1 >/dev/null 2>&1 </dev/null &
    watcher=$!
    shift 3
    "$@" || status=$?
    kill "${watcher}" 2>/dev/null || true
    wait "${watcher}" 2>/dev/null || true
    return "${status}"
}

# run_jobs <first> <last> <log with JOB> <command with JOB ...>: an array of jobs
run_jobs() {
    local first=$1 last=$2 name=$3
    shift 3
    # shellcheck disable=SC2086,SC2154 # train_cmd is set by cmd.sh
    if ! watched "${first}" "${last}" "${name}" ${train_cmd} ${gpu_opts} ${job_opts:-} --max-jobs-run "${nj}" \
        "JOB=${first}:${last}" "${name}" "$@"; then
        log "Error: jobs failed; what they said last:"
        for job in $(seq "${first}" "${last}"); do
            grep -h -B 2 -E "ERROR|[Ee]rror|Killed" "${name/JOB/${job}}" 2>/dev/null | tail -n 6 || true
        done
        exit 1
    fi
    # shellcheck disable=SC2046
    log "done: $(grep -l 'nothing to do' $(seq -f "${name/JOB/%g}" "${first}" "${last}") \
        2>/dev/null | wc -l) of $((last - first + 1)) jobs found their result up to date"
}

# run_job <log> <command ...>: one job, whose output is shown
run_job() {
    local name=$1 status=0
    shift
    # shellcheck disable=SC2086
    watched 1 1 "${name}" ${train_cmd} ${job_opts:-} "${name}" "$@" || status=$?
    grep -v '^#' "${name}" 2>/dev/null || true
    return "${status}"
}

# escaped <argument with blanks>: run.pl and its kin put it into double quotes, or into single
# ones where it holds double ones, and a shell reads it again
escaped() {
    case $1 in
        *\"*) echo "${1//\'/\'\\\'\'}" ;;
        *) sed 's/[\\$`]/\\&/g' <<<"$1" ;;
    esac
}

say_duration "${stage}"

if runs 1 "data preparation -> data/${set_name}, data/emotions, data/folds"; then
    words=() # xargs knows quotes, and nothing else that a shell would do
    if [ -n "${local_data_opts}" ]; then
        if ! split=$(xargs -n 1 printf '%s\n' <<<"${local_data_opts}"); then
            log "Error: --local_data_opts ${local_data_opts}: a quote is not closed"
            exit 2
        fi
        mapfile -t words <<<"${split}"
    fi
    local/data.sh ${words[@]+"${words[@]}"}
fi

if runs 2 "resample, cut segments, drop what is too short or long -> ${raw}"; then
    threads=$((nj < 8 ? nj : 8)) # of one node
    # shellcheck disable=SC2086
    job_opts="--num-threads ${threads}" run_job "${raw}/log/format_data.log" \
        ${python} -m emoq_plugin.bin.format_data --data_dir "data/${set_name}" \
        --emotions "${emotions}" --output_dir "${raw}" --sample_rate "${sample_rate}" \
        --min_seconds "${min_seconds}" --max_seconds "${max_seconds}" \
        --on_error "${on_error}" --multi_channel "${multi_channel}" \
        --allow_pipe "${allow_pipe}" --nj "${threads}"
fi

[ "${stage}" -gt 2 ] || [ -n "${known}" ] || say_duration 3 # again if stage 2 has counted otherwise
if runs 3 "features '${feature}' -> ${features}"; then
    dump=("${python}" -m emoq_plugin.bin.dump_features --data_dir "${raw}"
        --output_dir "${features}" --config "${feature_config}" --nj "${nj}"
        --device "${device}" ${model_dir:+--model_dir "${model_dir}"})
    run_jobs 1 "${nj}" "${features}/log/dump_features.JOB.log" "${dump[@]}" --job JOB
    run_job "${features}/log/merge.log" "${dump[@]}" --merge true
fi

# Stage 7 makes its own folds and features.
if [ "${stop_stage}" -gt 3 ] && [ "${stage}" -lt 7 ]; then
    if [ ! -d data/folds ]; then
        log "Error: data/folds is missing: run stage 1 first"
        exit 1
    fi
    last_fold=${last_fold:-$(count_folds)}
    fold_opts="--data_dir ${raw} --emotions ${emotions}"
    fold_opts+=" --folds data/folds --fold JOB"
fi

# learn_codebooks <first> <last> <name of the log> <options ...>: stage 4 as an array of jobs
learn_codebooks() {
    local first=$1 last=$2 name=$3 launcher=${python} learn_opts='' or_fail=''
    shift 3
    if [ "${cmd_backend}" = slurm ]; then
        # Where a process dies, the others have a minute to say which one.
        launcher="${step} --wait=60 --nodes ${learn_nodes}"
        launcher+=" --ntasks-per-node ${learn_procs} ${python}"
        # At status 137 (kill -9) slurm.pl would wait two minutes for the job to come back.
        or_fail="|| exit 1"
        if [ "$((learn_nodes * learn_procs))" -gt 1 ]; then
            learn_opts="--num-nodes ${learn_nodes} --ntasks-per-node ${learn_procs}"
        fi
    elif [ "${learn_procs}" -gt 1 ]; then
        launcher="${python} -m torch.distributed.run --standalone --nproc_per_node ${learn_procs}"
    fi
    # shellcheck disable=SC2086
    job_opts=${learn_opts} run_jobs "${first}" "${last}" "${exp}/log/${name}.JOB.log" \
        ${launcher} -m emoq_plugin.bin.learn_codebooks --job JOB --device "${device}" \
        --data_dir "${raw}" --emotions "${emotions}" --folds data/folds \
        --feature_dir "${features}" --config "${quantizer_config}" --corpus "${corpus}" \
        --train_on "${train_on}" --route_depth "${route_depth}" --crossfit "${crossfit}" \
        "$@" ${or_fail}
}

if runs 4 "learn codebooks at ${rates} -> ${exp}/fold<n>/quantizer"; then
    # shellcheck disable=SC2086
    learn_codebooks "${first_fold}" "${last_fold}" learn_codebooks --fold JOB \
        --rates ${rates} --systems ${systems} --output_dir "${exp}/foldJOB/quantizer"
fi

if runs 5 "units of every system at every rate -> ${units}/fold<n>/${set_name}"; then
    # shellcheck disable=SC2086
    gpu_opts='' run_jobs "${first_fold}" "${last_fold}" "${exp}/log/encode_units.JOB.log" \
        ${python} -m emoq_plugin.bin.encode_units ${fold_opts} \
        --feature_dir "${features}" \
        --quantizer_dir "${exp}/foldJOB/quantizer" --rates ${rates} --systems ${systems} \
        --route_depth "${route_depth}" --seed "${seed}" --subwords "${subwords}" \
        --output_dir "${units}/foldJOB/${set_name}"
fi

if runs 6 "emotion recognition on units (${ser_backend}) -> ${exp}/RESULTS.md"; then
    predictions=
    for backend in ${ser_backend}; do
        if [ "${backend}" = probe ]; then
            # shellcheck disable=SC2086
            gpu_opts='' run_jobs "${first_fold}" "${last_fold}" "${exp}/log/ser_probe.JOB.log" \
                ${python} -m emoq_plugin.bin.ser_probe ${fold_opts} \
                --feature_dir "${features}" \
                --quantizer_dir "${exp}/foldJOB/quantizer" \
                --units_dir "${units}/foldJOB/${set_name}" --rates ${rates} \
                --systems ${systems} --train_on "${train_on}" --config "${probe_config}" \
                --output_dir "${exp}/foldJOB/ser/probe"
            predictions+=" $(seq -f "${exp}/fold%g/ser/probe/posteriors.jsonl" "${first_fold}" "${last_fold}")"
        else
            # shellcheck disable=SC2086
            run_jobs "${first_fold}" "${last_fold}" "${exp}/log/ser_espnet.JOB.log" \
                ${python} -m emoq_plugin.bin.ser_espnet ${fold_opts} \
                --quantizer_dir "${exp}/foldJOB/quantizer" --rates ${rates} \
                --units_dir "${units}/foldJOB/${set_name}" --rate "${espnet_rate}" \
                --systems ${espnet_systems} --config "${ser_config}" --ngpu "${ngpu}" --job JOB \
                --seed "${seed}" "--ser_args=${ser_args}" --output_dir "${exp}/foldJOB/ser/espnet"
            for system in ${espnet_systems}; do
                predictions+=" $(seq -f "${exp}/fold%g/ser/espnet/${espnet_rate}_${system}/posteriors.jsonl" \
                    "${first_fold}" "${last_fold}")"
            done
        fi
    done
    # shellcheck disable=SC2086
    run_job "${exp}/log/score.log" \
        ${python} -m emoq_plugin.bin.score --predictions ${predictions} --data_dir "${raw}" \
        --emotions "${emotions}" --corpus "${corpus}" --synthetic "${synthetic}" \
        --tag "${tag}" --command "$(escaped "${command_line}")" --feature_dir "${features}" \
        --quantizer_config "${quantizer_config}" --output_dir "${exp}"
fi

if runs 7 "study ${study_config} -> ${study_dir}/summary.json"; then
    study=("${python}" -m emoq_plugin.bin.study --config "${study_config}" --root "${EMOQ_ROOT}"
        --corpus "${corpus}" --synthetic "${synthetic}" --data_dir "${raw}"
        --emotions "${emotions}" --folds data/folds --dumpdir "${dumpdir}"
        --output_dir "${study_dir}" --device "${device}"
        ${study_only:+--only "${study_only}"} ${alignments:+--alignments "${alignments}"})
    needs=$("${study[@]}" --needs)
    while read -r absent needed; do
        [ -n "${absent}" ] || continue
        log "Stages 1 to 3 of ${absent} for '${needed}'"
        if [ "${absent}" = "${corpus}" ]; then
            "$0" "${given[@]}" --stage 1 --stop_stage 3 \
                --feature_config "${conf}/features/${needed}.yaml" </dev/null
        else
            "${EMOQ_ROOT}/egs2/${absent}/ser2/run.sh" --stage 1 --stop_stage 3 --nj "${nj}" \
                --ngpu "${ngpu}" --python "${python}" --cmd_backend "${cmd_backend}" \
                --feature_config "${conf}/features/${needed}.yaml" </dev/null \
                || log "Warning: ${absent} is left out, see above"
        fi
    done <<<"${needs}"
    failed=false
    # shellcheck disable=SC2154 # train_cmd is set by cmd.sh
    "${study[@]}" --python "${step} ${python}" \
        --run "${train_cmd} ${gpu_opts} --max-jobs-run ${nj}" || failed=true
    run_job "${study_dir}/log/aggregate.log" "${study[@]}" --aggregate \
        --command "$(escaped "${command_line}")"
    if [ "${failed}" = true ]; then
        log "Error: ${study_dir}/summary.json lacks the jobs that failed: run stage 7 again"
        exit 1
    fi
fi

if runs 8 "report -> ${study_dir}/report.html"; then
    run_job "${study_dir}/log/report.log" ${python} -m emoq_plugin.bin.report "${study_dir}"
fi

if runs 9 "pack ${pack_system} at ${pack_rate} of fold ${pack_fold} -> ${exp}/packed"; then
    packed=${exp}/packed/${pack_rate}_${pack_system}
    if [ "${pack_fold}" = all ]; then
        packed+=_all
        log "learn ${pack_system} at ${pack_rate} on all speakers -> ${packed_from}"
        learn_codebooks 1 1 learn_all --fold all --rates "${pack_rate}" \
            --systems "${pack_system}" --output_dir "${packed_from}"
    fi
    # shellcheck disable=SC2086
    run_job "${exp}/log/pack.log" \
        ${python} -m emoq_plugin.bin.pack --system "${pack_system}" --rate "${pack_rate}" \
        --quantizer "${packed_from}" --output_dir "${packed}" \
        --subwords "${units}/fold${pack_fold}/${set_name}/${pack_rate}/${pack_system}/subwords.model"
fi

ended
log "Successfully finished${took:+ (${took})}. [elapsed=${SECONDS}s]"
