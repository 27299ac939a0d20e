#!/usr/bin/env bash
# All checks: set-up, style, shell scripts, unit tests, doctests, whole recipes.
# Usage: local/test.sh [pytest options], for example -k routing
#   EMOQ_TEST_INSTALL=no   install no Debian package; tests that need one are skipped, and listed
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. local/path.sh

ruff check .
black --check --quiet .
isort --check-only --quiet .
mapfile -t scripts < <(git ls-files -- '*.sh' .ci/run)
shellcheck -e SC2001 -e SC1091 -e SC2086 "${scripts[@]}"

# Some tests need Debian packages: a real Slurm, a real browser.
lacks() {
    local name
    for name in "$@"; do
        PATH=${PATH}:/usr/sbin command -v "${name}" >/dev/null || return 0
    done
    return 1
}
lacks_slurm() { lacks munged slurmctld slurmd sbatch; }
packages=()
if lacks_slurm; then packages+=(slurm-wlm munge); fi
if lacks chromium; then packages+=(chromium); fi
[ $# -gt 0 ] || echo "All tests: about 25 minutes on two cores." >&2
if [ "${#packages[@]}" -gt 0 ] && [ "${EMOQ_TEST_INSTALL:-yes}" != no ] && [ "$(id -u)" = 0 ] \
    && ! lacks apt-get; then
    echo "Installing ${packages[*]} by apt-get, a minute or two, for tests on a real Slurm and" \
        "in a real browser; EMOQ_TEST_INSTALL=no leaves it." >&2
    export DEBIAN_FRONTEND=noninteractive
    install=(apt-get install -qq -y --no-install-recommends "${packages[@]}")
    "${install[@]}" >/dev/null 2>&1 \
        || { apt-get update -qq && "${install[@]}"; } >/dev/null 2>&1 || true
fi
if lacks_slurm; then echo "WARNING: NOT TESTED ON SLURM: apt-get install slurm-wlm munge" >&2; fi
if lacks chromium; then echo "WARNING: NOT TESTED IN A BROWSER: apt-get install chromium" >&2; fi

python -m pytest -rs "$@" # lists what is skipped, and why
