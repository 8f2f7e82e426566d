"""The parts of the pronunciation application."""
