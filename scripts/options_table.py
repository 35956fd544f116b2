"""Write the table of `pulse upscale`'s options into the README, from the options themselves.

    python scripts/options_table.py

A test compares the table with the program.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from pulse.cli import main

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- options: scripts/options_table.py writes these rows -->\n", "<!-- end -->\n"


def rows_of(command: click.Command) -> list[str]:
    """One row for each option: its names, its default and its help."""
    context = click.Context(command)
    rows = []
    for option in command.params:
        if not isinstance(option, click.Option) or option.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
        default = option.get_default(context)
        has_one = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
        shown = str(default) if has_one else ""
        rows.append(f"| {names} | {_escaped(shown)} | {_escaped(option.help or '')} |")
    return rows


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def with_table(readme: str) -> str:
    """The README with the rows as they are now."""
    table = "\n".join(rows_of(main.commands["upscale"]))
    pattern = re.escape(START) + ".*?" + re.escape(END)
    block = f"{START}| option | default | what it sets |\n|---|---|---|\n{table}\n{END}"
    return re.sub(pattern, lambda _: block, readme, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
