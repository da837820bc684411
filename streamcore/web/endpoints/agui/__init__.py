"""Answer AG-UI clients at `/agui`."""
