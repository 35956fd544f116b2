"""The command line: options in, one call, a few lines out."""

from __future__ import annotations

from pulse.cli.main import main

__all__ = ["main"]
