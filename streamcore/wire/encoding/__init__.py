"""Encode answers as the bytes of a wire, and read its requests: the server's side of each wire, without I/O."""
