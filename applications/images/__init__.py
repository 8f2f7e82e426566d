"""The parts of the image classification application."""
