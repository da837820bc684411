"""Decode bytes into chunks, without I/O: nothing here uses the network, a clock or an SDK."""
