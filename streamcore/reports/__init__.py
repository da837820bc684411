"""Tell observers and the log what happens in an answer, an agent, a tool, a graph or a relay."""
