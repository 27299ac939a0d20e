#!/usr/bin/env bash
# Who runs the jobs, chosen by --cmd_backend or the environment; see docs/cluster.md.
# All are ESPnet's own scripts. conf/{slurm,queue,pbs}.conf of the recipe says how options are
# spelled on the cluster; where it is missing, conf/cluster of the repository does.

cmd_backend=${cmd_backend:-local}

case ${cmd_backend} in
    local) train_cmd=run.pl config= ;;
    stdout) train_cmd=stdout.pl config= ;;
    sge) train_cmd=queue.pl config=queue.conf ;;
    pbs) train_cmd=pbs.pl config=pbs.conf ;;
    slurm) train_cmd=slurm.pl config=slurm.conf ;;
    ssh) train_cmd=ssh.pl config= ;; # hosts are in .queue/machines
    *)
        echo "Error: cmd_backend='${cmd_backend}', expected local, stdout, sge, pbs, slurm or ssh" >&2
        exit 1
        ;;
esac
if ! command -v "${train_cmd}" >/dev/null; then
    echo "Error: cmd_backend='${cmd_backend}' needs ${train_cmd}, which this ESPnet" \
        "(${ESPNET_ROOT}) does not bring: put Kaldi's on the PATH" >&2
    exit 1
fi
if [ -n "${config}" ]; then
    if [[ ${PWD}${EMOQ_ROOT} = *[[:space:]]* ]]; then
        echo "Error: ${train_cmd} cannot work in '${PWD}': move it to a path without spaces" >&2
        exit 1
    fi
    # Without --config the scripts read the recipe's conf/${config}.
    [ -f "conf/${config}" ] || train_cmd+=" --config ${EMOQ_ROOT}/conf/cluster/${config}"
fi
# For example --mem 8G --time 24:00:00
train_cmd+=${cmd_opts:+ ${cmd_opts}}
cuda_cmd=${train_cmd}
export train_cmd cuda_cmd
