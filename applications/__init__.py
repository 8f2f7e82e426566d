"""Applications: programs that join a data pipeline, a template and a report."""
