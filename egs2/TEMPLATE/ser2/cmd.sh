#!/usr/bin/env bash
# Who runs the jobs, chosen by --cmd_backend or the environment.
# All are ESPnet's own scripts; their options are mapped in conf/cluster/.

cmd_backend=${cmd_backend:-local}
cluster_conf=${EMOQ_ROOT}/conf/cluster

case ${cmd_backend} in
    local) train_cmd="run.pl" ;;
    stdout) train_cmd="stdout.pl" ;;
    sge) train_cmd="queue.pl --config ${cluster_conf}/queue.conf" ;;
    pbs) train_cmd="pbs.pl --config ${cluster_conf}/pbs.conf" ;;
    slurm) train_cmd="slurm.pl --config ${cluster_conf}/slurm.conf" ;;
    ssh) train_cmd="ssh.pl" ;; # hosts stand in .queue/machines
    *)
        echo "Error: cmd_backend='${cmd_backend}', expected local, stdout, sge, pbs, slurm or ssh" >&2
        exit 1
        ;;
esac
cuda_cmd=${train_cmd}
export train_cmd cuda_cmd
