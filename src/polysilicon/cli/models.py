"""`polysilicon models`: local model files."""

from __future__ import annotations

import click
from rich.table import Table

from polysilicon import units
from polysilicon.cli.output import download_bar, emit_json, json_option, out
from polysilicon.cli.parts import Verbs
from polysilicon.runtime import assets, models


@click.group(cls=Verbs, epilog="Example:  polysilicon models list")
def command() -> None:
    """List and download local model files."""


@command.command("list", epilog="Example:  polysilicon models list --json")
@json_option
def list_(as_json: bool) -> None:
    """List the models known by name and those in the cache."""
    rows = models.list_models()
    if as_json:
        emit_json({"models": rows})
        return
    table = Table("model", "here", "size", "licence", "what")
    for row in rows:
        here = "yes" if row.present else "no"
        table.add_row(row.name, here, units.size_bytes(row.size_bytes), row.licence, row.help)
    out().print(table)


@command.command("pull", epilog="Example:  polysilicon models pull smollm2-135m-instruct")
@click.argument("name")
@click.option("--sha256", help="Checksum that the file must have.")
@json_option
def pull(name: str, sha256: str | None, as_json: bool) -> None:
    """Download the model NAME (a name, a .gguf path or a URL) and check it."""
    with download_bar(name) as seen:
        path = models.pull(name, sha256, seen)
    digest = assets.sha256_of(path)
    row = {"name": models.model_name(path), "path": str(path), "sha256": digest}
    if as_json:
        emit_json(row)
    else:
        click.echo(f"{row['name']}: {path}\nsha256 {digest}")
