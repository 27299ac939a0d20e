#!/usr/bin/env bash
# Where the corpora are: set a path here or in the environment; see egs2/README.md.
# A path is a directory as distributed, an archive of it, or a CSV file (docs/new_corpus.md).

CREMA_D=${CREMA_D:-}
CREMA_D_VOTES=${CREMA_D_VOTES:-} # another place of the vote table than within CREMA_D
EMNS=${EMNS:-}
EMODB=${EMODB:-}
ENTERFACE=${ENTERFACE:-}
ESD=${ESD:-}
IEMOCAP=${IEMOCAP:-}
JL_CORPUS=${JL_CORPUS:-}
MELD=${MELD:-}
MSP_PODCAST=${MSP_PODCAST:-}
NEMO=${NEMO:-}
RAVDESS=${RAVDESS:-}
