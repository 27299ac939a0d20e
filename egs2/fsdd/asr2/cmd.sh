#!/usr/bin/env bash
# Who runs the jobs, see TEMPLATE/ser2/cmd.sh; asr2.sh decodes with decode_cmd.
. "$(dirname "${BASH_SOURCE[0]}")/../../TEMPLATE/ser2/cmd.sh"
export decode_cmd=${train_cmd:?}
