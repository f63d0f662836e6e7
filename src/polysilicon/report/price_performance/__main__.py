"""Writes the page and its charts: `python -m polysilicon.report.price_performance docs`."""

from __future__ import annotations

from pathlib import Path

import click

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.tables import data_folder
from polysilicon.report.price_performance.write import write_page


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Write price_performance.md and its charts into FOLDER; takes half a minute."""
    # Not the user's imports: the page says what everybody has.
    for path in write_page(folder, Catalog(data_folder())):
        click.echo(path)


if __name__ == "__main__":
    main()
