"""A small service and its tests, without a network; see docs/testing.md."""
