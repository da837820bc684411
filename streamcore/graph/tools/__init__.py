"""Run the tools that a graph file declares: shell commands and Python functions."""
