"""Answer clients of the vendors' APIs: the wires that are installed, at the paths that their SDKs expect."""
