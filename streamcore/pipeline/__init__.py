"""Provide the stages between a provider and a caller, one file each."""
