#!/usr/bin/env bash
# Makes the environment: Python 3.12 in .venv, the pinned packages, ESPnet's recipe tree.
#
# Usage: local/setup.sh            (idempotent: a second call returns at once)
#   EMOQ_SETUP=skip   use the active Python; nothing is installed
#   ESPNET_ROOT=DIR   an ESPnet checkout of the same era instead of the unpacked release
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${root}/.venv
requirements=${root}/conf/requirements.txt
stamp=${venv}/.emoq_setup
espnet_version=$(sed -n 's/^espnet==//p' "${requirements}")
espnet_tree=${venv}/espnet-${espnet_version}

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (setup.sh) $*" >&2; }

find_python() {
    # Prints a Python 3.12 that really runs (a pyenv shim may exist and fail).
    local candidate
    for candidate in python3.12 "${PYENV_ROOT:-${HOME}/.pyenv}"/versions/3.12*/bin/python3.12; do
        if "${candidate}" -c 'import sys; assert sys.version_info[:2] == (3, 12)' 2>/dev/null; then
            "${candidate}" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo 3.12 # uv fetches one
}

find_uv() {
    # Prints a uv: the user's own, else one in a small environment beside .venv.
    if ! command -v uv; then
        if [ ! -x "${root}/.uv/bin/uv" ]; then
            log "installing uv into .uv"
            python3 -m venv "${root}/.uv"
            "${root}/.uv/bin/pip" install --quiet --disable-pip-version-check uv
        fi
        echo "${root}/.uv/bin/uv"
    fi
}

unpack_espnet() {
    # ESPnet's recipes (egs2/TEMPLATE, utils, steps, ...) ship only in its source distribution.
    local download
    download=$(mktemp -d)
    log "unpacking the recipe tree of ESPnet ${espnet_version}"
    "${venv}/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation --no-binary espnet -d "${download}" "espnet==${espnet_version}"
    tar -xzf "${download}"/espnet-*.tar.gz -C "${download}"
    rm -rf "${espnet_tree}"
    mv "${download}/espnet-${espnet_version}" "${espnet_tree}"
    rm -rf "${download}"
    # The source distribution drops directory links: TEMPLATE/<task>/{scripts,pyscripts,steps,utils}.
    local common=${espnet_tree}/egs2/TEMPLATE task name
    for task in "${common}"/*/; do
        for name in scripts pyscripts; do
            [ -e "${task}${name}" ] || [ ! -d "${common}/asr1/${name}" ] \
                || ln -s "../asr1/${name}" "${task}${name}"
        done
    done
}

fingerprint() { cat "${requirements}" "${root}/setup.cfg" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1; }

if [ "${EMOQ_SETUP:-}" = skip ]; then
    exit 0
fi
if [ "$(cat "${stamp}" 2>/dev/null)" = "$(fingerprint)" ]; then
    exit 0
fi
exec 9>"${root}/.setup.lock"
flock 9 # two recipes that start at once set up once
if [ "$(cat "${stamp}" 2>/dev/null)" = "$(fingerprint)" ]; then
    exit 0
fi

python=$(find_python)
uv=$(find_uv)
log "Python: ${python}, uv: ${uv}"
# Asked of pip, which comes last: a set-up that broke off here is made whole.
if ! "${venv}/bin/python" -m pip --version >/dev/null 2>&1; then
    "${uv}" venv --quiet --seed --allow-existing --python "${python}" "${venv}"
fi
log "installing $(grep -c == "${requirements}") pinned packages into .venv (about 6 GB, two minutes)"
"${uv}" pip install --quiet --python "${venv}/bin/python" -r "${requirements}"
"${uv}" pip install --quiet --python "${venv}/bin/python" --no-deps --no-build-isolation -e "${root}"
if [ -z "${ESPNET_ROOT:-}" ] && [ ! -d "${espnet_tree}" ]; then
    unpack_espnet
fi
fingerprint >"${stamp}"
log "ready"
