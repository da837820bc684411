"""Readers and servers of `benchmarks/limits.py`."""
