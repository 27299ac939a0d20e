#!/usr/bin/env bash
# Who runs the jobs, chosen by --cmd_backend or the environment.
# All are ESPnet's own scripts; a conf/{queue,pbs,slurm}.conf in the recipe maps their options.

cmd_backend=${cmd_backend:-local}

case ${cmd_backend} in
    local) train_cmd="run.pl" ;;
    stdout) train_cmd="stdout.pl" ;;
    sge) train_cmd="queue.pl" ;;
    pbs) train_cmd="pbs.pl" ;;
    slurm) train_cmd="slurm.pl" ;;
    ssh) train_cmd="ssh.pl" ;; # hosts stand in .queue/machines
    *)
        echo "Error: cmd_backend='${cmd_backend}', expected local, stdout, sge, pbs, slurm or ssh" >&2
        exit 1
        ;;
esac
cuda_cmd=${train_cmd}
export train_cmd cuda_cmd
