"""`polysilicon plan update`."""
import click
@click.command()
def update() -> None: ...
