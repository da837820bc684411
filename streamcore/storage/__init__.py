"""Measure chunks for buffers and limits, and write messages and answers as JSON that can be kept."""
