"""Define the schema of an answer, find its JSON, and validate it once, at the end of the answer."""
