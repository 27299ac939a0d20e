#!/usr/bin/env bash
# Where the corpora are; a variable that is already set in the environment wins.

: "${EMODB:=}" # Berlin Database of Emotional Speech: the directory that holds wav/
export EMODB
