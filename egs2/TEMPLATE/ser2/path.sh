#!/usr/bin/env bash
. "$(dirname "${BASH_SOURCE[0]}")/../../../local/path.sh"
