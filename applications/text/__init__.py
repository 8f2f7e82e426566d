"""The parts of the text generation application."""
