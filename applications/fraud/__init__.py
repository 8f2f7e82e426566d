"""The parts of the fraud application."""
