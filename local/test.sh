#!/usr/bin/env bash
# All checks: set-up, style, shell scripts, unit tests, doctests, whole recipes.
# Usage: local/test.sh [pytest options], for example -k routing
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. local/path.sh

ruff check .
black --check --quiet .
isort --check-only --quiet .
mapfile -t scripts < <(git ls-files -- '*.sh' .ci/run)
shellcheck -e SC2001 -e SC1091 -e SC2086 "${scripts[@]}"

# The tests on a real Slurm need two Debian packages.
slurm_is_here() {
    local name
    for name in munged slurmctld slurmd sbatch; do
        PATH=${PATH}:/usr/sbin command -v "${name}" >/dev/null || return 1
    done
}
if ! slurm_is_here && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    packages=(-qq -y --no-install-recommends slurm-wlm munge)
    apt-get install "${packages[@]}" >/dev/null 2>&1 \
        || { apt-get update -qq && apt-get install "${packages[@]}"; } >/dev/null 2>&1 || true
fi
slurm_is_here || echo "WARNING: NOT TESTED ON SLURM: apt-get install slurm-wlm munge" >&2

python -m pytest "$@"
