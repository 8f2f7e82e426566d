"""What the fraud application is made of."""
