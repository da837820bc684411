"""Run graphs of prompts that YAML files describe, streaming every token."""
