#!/usr/bin/env bash
# Writes what would go to ESPnet as a tree in its layout, and runs its checks on it:
# local/export_upstream.sh <directory>; see docs/contributing_to_espnet.md.
set -euo pipefail

if [ $# -ne 1 ] || { [ -e "$1" ] && [ -n "$(ls -A "$1")" ]; }; then
    echo "Usage: $0 <directory that is new or empty>" >&2
    exit 2
fi
mkdir -p "$1"
tree=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. local/path.sh
max_files=30 max_lines=1500 # of a pull request, CONTRIBUTING.md of ESPnet
own=emoq_plugin/espnet_adapters/espnet3
system=${tree}/espnet3/systems/ser2
mkdir -p "${system}/metrics" "${system}/src" "${tree}/egs3/TEMPLATE/ser2"

# google <file>: NumPy docstrings become Google's, our modules those of the tree
google() {
    python3 - "$1" <<'PY'
import re
import sys
import textwrap

TITLES = {"Parameters": "Args", "Attributes": "Attributes", "Returns": "Returns"}
TITLES |= {"Raises": "Raises", "Examples": "Examples"}
HOME = "emoq_plugin.espnet_adapters.espnet3"
text = open(sys.argv[1], encoding="utf-8").read()
for name, place in (
    ("metrics", "espnet3.systems.ser2.metrics.emotion"),
    ("system", "espnet3.systems.ser2.system"),
    *((n, f"espnet3.systems.ser2.src.{n}") for n in ("settings", "jobs", "datasets")),
):
    text = re.sub(rf"\b{re.escape(HOME)}\.{name}\b", place, text)


def convert(match):
    lines, found, inside = match[0].split("\n"), [], False
    for n, line in enumerate(lines):
        following = lines[n + 1].strip() if n + 1 < len(lines) else ""
        if line.strip() in TITLES and following and not following.strip("-"):
            base, inside = line[: -len(line.lstrip())], True
            found.append(f"{base}{TITLES[line.strip()]}:")
        elif inside and line.strip() and not line.strip().strip("-"):
            continue  # the line under a title
        elif inside and line.startswith(base) and line.strip().strip('"'):
            entry = re.fullmatch(rf"{base}(\*{{0,2}}\w[\w, ]*) : (.+)", line)
            if entry:
                line = f"{base}{entry[1]} ({entry[2]}):"
            elif re.fullmatch(rf"{base}(\*\*)?\w+", line):
                line += ":"
            indent = "    " + line[: -len(line.lstrip())]
            fits = len(line) <= 84 or ">>>" in line
            found += [f"    {line}"] if fits else textwrap.wrap(
                line.strip(), 88, initial_indent=indent, subsequent_indent=indent
            )
        else:
            found.append(line)
    return "\n".join(found)


text = re.sub(r'"""(?:.|\n)*?"""', convert, text)
open(sys.argv[1], "w", encoding="utf-8").write(text)
PY
}

echo '"""Emotion recognition on discrete units; needs the package emoq."""' >"${system}/__init__.py"
echo '"""Metrics of emotion recognition."""' >"${system}/metrics/__init__.py"
echo '"""What the stages of the system share."""' >"${system}/src/__init__.py"
echo '"""Defaults of ser2 recipes."""' >"${tree}/egs3/TEMPLATE/ser2/__init__.py"
# launch() finds the defaults of its own systems, so the package is not named there.
sed -e '/import PACKAGE$/d' -e 's/conf_package=PACKAGE, //' "${own}/system.py" >"${system}/system.py"
cp "${own}/metrics.py" "${system}/metrics/emotion.py"
cp "${own}"/{settings,jobs,datasets}.py "${system}/src"
cp -r "${own}/conf" "${tree}/egs3/TEMPLATE/ser2"
for corpus in mini_emo emodb; do
    mkdir -p "${tree}/egs3/${corpus}/ser2/conf"
    cp "egs3/${corpus}/ser2/run.py" "${tree}/egs3/${corpus}/ser2"
    cp "egs3/${corpus}/ser2/conf"/*.yaml "${tree}/egs3/${corpus}/ser2/conf"
done
find "${tree}" -name '*.py' -o -name '*.yaml' | while read -r file; do google "${file}"; done

echo "style: black and isort of ESPnet, ruff for flake8 and pycodestyle"
black -q "${tree}"
isort -q --profile black "${tree}"
ruff check -q --isolated --line-length 88 --select E,W,F "${tree}"

files=$(find "${tree}" -type f | wc -l)
lines=$(find "${tree}" -type f -exec cat {} + | wc -l)
echo "${files} files (at most ${max_files}), ${lines} lines (below ${max_lines})"
[ "${files}" -le "${max_files}" ] && [ "${lines}" -lt "${max_lines}" ]

echo "unit checks: layout of systems, contract of stages and metrics, examples"
cd "${tree}"
python3 - <<'PY'
import doctest
import importlib
import sys

import egs3.TEMPLATE
import espnet3.systems

# The tree holds single files of packages that are installed.
espnet3.systems.__path__.append("espnet3/systems")
egs3.TEMPLATE.__path__.append("egs3/TEMPLATE")
failed = 0
for name in ("metrics.emotion", "src.settings", "src.jobs", "src.datasets", "system"):
    module = importlib.import_module(f"espnet3.systems.ser2.{name}")
    failed += doctest.testmod(module).failed
sys.exit(failed > 0)
PY
layout=${ESPNET_ROOT}/test/espnet3/systems/test_layout.py
python3 - "${layout}" <<'PY'
import pathlib
import runpy
import sys

violations = runpy.run_path(sys.argv[1])["_violations"]
if found := violations(pathlib.Path("espnet3/systems/ser2")):
    sys.exit(f"espnet3/systems/ser2 may not hold {found}")
PY
echo "${tree} is ready"
