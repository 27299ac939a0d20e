#!/usr/bin/env bash
# Quick start: sets everything up and runs the embedded recipe, stages 1 to 6.
exec "$(dirname "${BASH_SOURCE[0]}")/egs2/mini_emo/ser2/run.sh" "$@"
