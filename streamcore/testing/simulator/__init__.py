"""Serve the vendors' wires on loopback, with made-up answers or recordings."""
