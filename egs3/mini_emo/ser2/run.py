"""Emotion recognition on discrete units: python run.py [--stages ...]."""

from emoq_plugin.espnet_adapters.espnet3.system import main

if __name__ == "__main__":
    main()
