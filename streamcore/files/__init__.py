"""Read the files that users write: YAML with positions, models that validate it, templates, files of variables."""
