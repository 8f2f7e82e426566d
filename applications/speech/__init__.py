"""The parts of the speech tagging application."""
