"""Small plan problems: files of TOML that tests write, and what they become."""

from __future__ import annotations

from datetime import date

from polysilicon import catalog
from polysilicon.planning.answered import Effort, planned
from polysilicon.planning.compose import Composed, Source, compose
from polysilicon.planning.file import read_problem
from polysilicon.planning.plan_file import PlanFile

TODAY = date(2026, 11, 22)
HEAD = """
title = "small"

[horizon]
months = 12
hours = "mean"
"""
CORES = """
[[demand]]
name = "tools"
unit = "cores"
measured_on = "aws/m9g.48xlarge"
amount = 1000
"""
UNITS = """
[[demand]]
name = "work"
unit = "units"
amount = 10
"""
RENTED = """
[[offer]]
name = "aws/m9g.48xlarge"
regions = ["us-east-1"]
"""
BOX = """
[[offer]]
name = "own/box"
regions = ["here"]
work = { work = 1.0 }
on_demand_usd_per_hour = 1.0
"""
YEAR = """
[[contract]]
shape = "units"
name = "year"
offers = ["*"]
term_months = 12
discount = 0.4
last_order = 1
"""
SMALL = HEAD + UNITS + BOX + YEAR


def write(folder, text: str):
    """Write a problem file, and return its path."""
    path = folder / "problem.toml"
    path.write_text(text, "utf-8")
    return path


def source(path) -> Source:
    """Return where a problem file comes from."""
    return Source(folder=path.parent, where=path.name, today=TODAY)


def composed(folder, text: str) -> Composed:
    """Return a problem in numbers."""
    path = write(folder, text)
    return compose(read_problem(path), source(path), catalog.shipped())


def solved(folder, text: str, changes: tuple[str, ...] = (), gap: float = 1e-6) -> PlanFile:
    """Return the plan for a problem, to a gap of a millionth unless it is told."""
    path = write(folder, text)
    effort = Effort(gap=gap, time_s=20.0)
    return planned(read_problem(path), changes, source(path), catalog.shipped(), effort)
