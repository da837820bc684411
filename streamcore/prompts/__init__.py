"""Turn a prompt file into a request."""
