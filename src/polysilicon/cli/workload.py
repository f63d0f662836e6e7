"""`polysilicon workload`: workloads out of workloads, or out of nothing."""

from __future__ import annotations

import click

from polysilicon.cli.parts import Parts

_PARTS = ("generate", "scale", "slice", "merge", "anonymise")


@click.group(
    cls=Parts,
    parts={name: f"workload_{name}" for name in _PARTS},
    epilog="Example:  polysilicon workload scale w.parquet --rate 2 -o twice.parquet",
)
def command() -> None:
    """Make workloads: generate them, or scale, slice, merge and anonymise those that are there."""
