"""What the image classification application is made of."""
