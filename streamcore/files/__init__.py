"""Read the files that users write: YAML with positions, models of files, templates, the sandbox."""
