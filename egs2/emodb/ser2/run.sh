#!/usr/bin/env bash
# EMO-DB (German, acted, 10 speakers): EMODB=<corpus directory> ./run.sh
set -euo pipefail

# A relative path is meant from where the user stands.
if [ -n "${EMODB:-}" ] && [ -d "${EMODB}" ]; then
    EMODB=$(cd "${EMODB}" && pwd)
    export EMODB
fi
export recipe_command="EMODB=<corpus directory> egs2/emodb/ser2/run.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"

# Stage 7: phones are the control of content; their directory has two names.
export study_config=../../../conf/study/emodb.yaml
for place in lablaut phones; do
    [ ! -d "${EMODB:-}/${place}" ] || export alignments=${EMODB}/${place}
done

./ser2.sh --corpus emodb --train_on train+valid "$@"
