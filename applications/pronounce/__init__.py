"""What the pronunciation application is made of."""
