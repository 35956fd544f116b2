"""Weights files: what is in them, and the generators they hold."""
