"""Turn prompt files into requests."""
