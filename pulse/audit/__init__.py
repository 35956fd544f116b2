"""What the method does to whom, and whether its answers come in proportion."""
