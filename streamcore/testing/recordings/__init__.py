"""Record what vendors send, keep it in files, and replay it."""
