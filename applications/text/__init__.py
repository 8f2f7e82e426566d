"""What the text generation application is made of."""
