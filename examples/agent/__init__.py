"""An agent with two tools, and its tests."""
