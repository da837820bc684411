"""A small service and its tests, without a network; see the guide "Testing"."""
