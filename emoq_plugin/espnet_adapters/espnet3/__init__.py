"""Speech emotion recognition on discrete units as a system of ESPnet's espnet3."""

PACKAGE = __name__  # holds conf/<role>.yaml, the defaults of `launch`
