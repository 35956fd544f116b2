"""Training a generator from a folder of pictures."""
