"""`pulse weights`: the generators that are known, those that are here, and their files."""

from __future__ import annotations

import json
from pathlib import Path

import click

InputPath = click.Path(path_type=Path)

WEIGHTS_EXAMPLES = """\b
Examples:
  pulse weights list
  pulse weights get stylegan2-ada-ffhq-1024
"""
LIST_EXAMPLES = """\b
Examples:
  pulse weights list
  pulse weights list --json
"""
INFO_EXAMPLES = """\b
Examples:
  pulse weights info portraits-128
  pulse weights info my-generator.pkl --json
"""
GET_EXAMPLES = """\b
Examples:
  pulse weights get stylegan2-ada-ffhq-1024
  pulse weights get stylegan1-ffhq-1024
"""
CONVERT_EXAMPLES = """\b
Examples:
  pulse weights convert my-generator.pkl -o my-generator.safetensors
  pulse weights convert synthesis.pt -o face.safetensors --licence CC-BY-NC-4.0
"""
FIT_EXAMPLES = """\b
Examples:
  pulse weights fit my-generator.pkl
  pulse weights fit my-generator.pkl --bank 2000
  pulse weights fit my-generator.pkl --head 700000 --head-steps 50000    on a GPU
  pulse weights fit my-generator.pkl --coarse 1000
"""
PATH_EXAMPLES = """\b
Examples:
  pulse weights path
  pulse weights path --help
"""


@click.group(epilog=WEIGHTS_EXAMPLES)
def weights() -> None:
    """List, inspect, download and convert generators."""


@weights.command("list", epilog=LIST_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_(as_json: bool) -> None:
    """List the generators that PULSE knows by name."""
    from pulse.cli.weights_text import catalog_rows, table

    rows = catalog_rows()
    click.echo(json.dumps(rows) if as_json else table(rows))


@weights.command(epilog=INFO_EXAMPLES)
@click.argument("source", metavar="NAME|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--tensors", is_flag=True, help="List every tensor with its shape too.")
def info(source: str, as_json: bool, tensors: bool) -> None:
    """Say what a weights file is."""
    from pulse.checkpoints.load import load_network
    from pulse.cli.weights_text import describe, tensor_lines

    loaded = load_network(source)
    description = describe(source, loaded)
    lines = tensor_lines(loaded.network) if tensors else []
    if as_json:
        click.echo(json.dumps(description | ({"shapes": lines} if tensors else {})))
        return
    for name, value in description.items():
        click.echo(f"{name + ':':<16}{value}")
    for line in lines:
        click.echo(f"  {line}")


@weights.command(epilog=GET_EXAMPLES)
@click.argument("name")
def get(name: str) -> None:
    """Download a generator, or go on with a download that was cut short."""
    from pulse.cli.weights_text import download_entry

    click.echo(f"{name} is in '{download_entry(name)}'.")


@weights.command(epilog=CONVERT_EXAMPLES)
@click.argument("source", metavar="NAME|FILE")
@click.option("-o", "--out", type=InputPath, required=True, help="File to write (.safetensors).")
@click.option("--licence", help="Licence of the weights, kept in the file.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def convert(source: str, out: Path, licence: str | None, overwrite: bool) -> None:
    """Write a generator of any format as safetensors, read it back and compare."""
    from pulse.checkpoints.convert import convert as write
    from pulse.checkpoints.load import load_network
    from pulse.cli.weights_text import licence_of

    loaded = load_network(source)
    write(loaded, out, licence or licence_of(source, loaded), overwrite=overwrite)
    click.echo(f"{source} ({loaded.format}) -> {out}, every tensor and a picture compared.")


@weights.command(epilog=FIT_EXAMPLES)
@click.argument("source", metavar="NAME|FILE")
@click.option("--samples", type=click.IntRange(min=1000), default=100_000, show_default=True,
              help="Styles to fit the prior with.")  # fmt: skip
@click.option("--bank", type=click.IntRange(min=0), default=250, show_default=True,
              help="Samples to draw for the fast search; 0 for none.")  # fmt: skip
@click.option("--head", type=click.IntRange(min=0), default=0, show_default=True,
              help="Samples to train the head of --method posterior with; 0 for none.")  # fmt: skip
@click.option("--head-steps", type=click.IntRange(min=1), default=5000, show_default=True,
              help="Steps of its training.")  # fmt: skip
@click.option("--coarse", type=click.IntRange(min=0), metavar="N",
              help="Samples to train a coarse generator with, 1000 say: the fast search then takes "
              "about half as many steps, of use where they are slow; 0 removes it.")  # fmt: skip
@click.option("--class", "class_index", type=int, help="Class, for generators that know several.")
def fit(source: str, samples: int, bank: int, head: int, head_steps: int, coarse: int | None,
        class_index: int | None) -> None:  # fmt: skip
    """Fit the prior of a generator, draw its bank of samples, and train its heads."""
    from pulse.cli.weights_text import fit_and_tell

    click.echo(fit_and_tell(source, samples, bank, class_index, head, head_steps, coarse))


@weights.command(epilog=PATH_EXAMPLES)
def path() -> None:
    """Print the folder of downloaded generators."""
    from pulse.files import cache_dir

    click.echo(cache_dir() / "weights")
