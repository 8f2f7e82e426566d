"""The parts of the image synthesis application."""
