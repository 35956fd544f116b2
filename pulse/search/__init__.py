"""The search of a generator's latent space: tensors in, tensors out."""
