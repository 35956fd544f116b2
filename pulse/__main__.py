"""`python -m pulse` is `pulse`."""

from pulse.cli import main

main(prog_name="pulse")
