"""Determine which event loop runs, own open streams and close them, run background tasks, merge sources."""
