"""Which expert encodes a clip: routers, controls, and the routed quantizer."""

# Raised when routes come out otherwise; see `Stage`.
VERSION = 1
