"""What the speech tagging application is made of."""
