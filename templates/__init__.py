"""Templates: one architecture family a file, to be copied into other projects."""
