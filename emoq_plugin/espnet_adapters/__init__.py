"""Everything that touches espnet2; importing this package does not import it."""
