"""Benchmarks of the quantizer engine beside its peers; results: docs/performance.md."""
