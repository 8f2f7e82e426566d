"""What the image synthesis application is made of."""
