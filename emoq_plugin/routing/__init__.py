"""Which expert encodes a clip: routers, controls, and the routed quantizer."""
