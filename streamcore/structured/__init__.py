"""Define what an answer must be, find its JSON, and check it once, at the end of the answer."""
