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

python -m pytest "$@"
