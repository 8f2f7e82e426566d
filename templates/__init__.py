"""Model templates: each file holds one family of architectures and can be copied into another project."""
