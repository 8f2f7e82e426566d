"""Data pipelines: one file per source, from raw files to named splits."""
