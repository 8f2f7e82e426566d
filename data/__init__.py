"""Data pipelines: one file a source, from the raw thing to named splits."""
