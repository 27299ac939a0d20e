"""Registers the plug-in in every Python process, where the command cannot be changed.

    export EMOQ_AUTOREGISTER=1
    export PYTHONPATH=$(python -c 'import emoq_plugin.autoregister as a; print(a.path)')

Python imports `sitecustomize` from the second of its directories when it starts.
Nothing is installed and nothing is done unless the variable is 1.
"""

import os
from pathlib import Path

path = os.pathsep.join(str(Path(__file__).parents[up]) for up in (2, 0))
