"""Applications: programs that combine a data pipeline, a template and a report."""
