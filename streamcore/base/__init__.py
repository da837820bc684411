"""Define what everything else is built on: the root of the errors, copies of errors, secrets out of texts."""
