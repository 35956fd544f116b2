"""The StyleGAN generators: differentiable functions from styles and noise maps to pictures."""
