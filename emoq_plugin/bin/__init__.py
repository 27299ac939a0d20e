"""One thin module per stage command: `python -m emoq_plugin.bin.<verb>`."""
