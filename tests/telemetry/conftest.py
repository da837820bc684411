"""Give the tests of telemetry the graph of the tests of observers."""

from tests.observe.test_trees import graph

__all__ = ["graph"]
