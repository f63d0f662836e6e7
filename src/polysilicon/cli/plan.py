"""`polysilicon plan`: what to commit to, for years, and what would change it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from polysilicon import catalog
from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.cli.parts import Verbs
from polysilicon.cli.plan_solving import effort_options, solving
from polysilicon.cli.plan_update import update
from polysilicon.errors import nearest
from polysilicon.planning.answered import planned, source_of
from polysilicon.planning.compose import Source
from polysilicon.planning.difference import difference
from polysilicon.planning.file import read_problem
from polysilicon.planning.plan_file import PlanFile, check_name, read_plan, write_plan
from polysilicon.planning.words import sentences
from polysilicon.report.plan import difference_page, explained_page, plan_page
from polysilicon.report.plan_html import write_plan_page
from polysilicon.workload.files import check_other

INTERRUPTED = 130
SOLVE = "solve"


class _Planning(Verbs):
    """A group in which what is none of its verbs is a problem to solve."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the verb in front that is left out.

        Raises:
            click.UsageError: it is a verb that is written wrong, and no file.
        """
        if args and args[0] not in (*self.commands, "-h", "--help"):
            path = Path(args[0])
            if not (args[0].startswith("-") or path.suffix or path.exists()):
                mend = nearest(args[0], self.list_commands(ctx), 1)
                if mend:
                    raise click.UsageError(f"there is no verb and no file {args[0]!r}; {mend}", ctx)
            args = [SOLVE, *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, _ctx: click.Context) -> list[str]:
        """Return the usage of what is asked for mostly."""
        return ["PROBLEM", "[OPTIONS]  |  VERB …"]

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the verbs that have a name."""
        return [name for name in self.commands if name != SOLVE]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of a problem to solve, then the verbs."""
        self.commands[SOLVE].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(
    name="plan",
    cls=_Planning,
    epilog="\b\nExample:\n"
    "  polysilicon plan examples/plan_startup.toml -o plan.json\n"
    "  polysilicon plan explain plan.json\n"
    "  polysilicon plan what-if plan.json --set demand=1.3",
)
def command() -> None:
    """Find what to commit to for the months of PROBLEM (.toml), across vendors."""


@command.command(SOLVE, hidden=True)
@click.argument("problem", type=click.Path(path_type=Path))
@effort_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a plan file (.json).")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page for who signs (.html).")
@json_option
def solve_(
    problem: Path, *, gap: float, time_s: float, output: Path | None, html: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Find what to commit to."""
    for path in (output, html):
        if path is not None:
            check_other(path, [problem])
    if output is not None:
        check_name(output)
    source = Source(folder=problem.parent, where=str(problem), today=datetime.now(UTC).date())
    file = read_problem(problem)
    with solving(gap, time_s, explore_s=time_s) as effort:
        kept = planned(file, [], source, catalog.load(), effort)
        stopped = effort.stop is not None and effort.stop()
    _show(kept, output, html, as_json=as_json)
    if stopped:  # perhaps only what is told beside the plan was cut short
        raise SystemExit(INTERRUPTED)


def _show(kept: PlanFile, output: Path | None, html: Path | None, *, as_json: bool) -> None:
    """Write and print a plan."""
    if output is not None:
        write_plan(kept, output)
    if html is not None:
        write_plan_page(kept.plan, html)
    if as_json:
        emit_json(kept.plan)
    else:
        out().print(plan_page(kept.plan))
        for what, path in (("plan", output), ("page", html)):
            if path is not None:
                out().print(f"{what}: {path}", markup=False)


@command.command(epilog="Example:  polysilicon plan explain plan.json")
@click.argument("plan", type=click.Path(path_type=Path))
@json_option
def explain(plan: Path, *, as_json: bool) -> None:
    """Say PLAN (a plan file) in words: what to sign, what it costs, why, what it rests on."""
    found = read_plan(plan).plan
    if as_json:
        emit_json(dict(sentences(found)))
    else:
        out().print(explained_page(found))


@command.command(
    "what-if",
    epilog="\b\nChanges:\n"
    "  demand=1.3, demand:NAME=2     factor on demand\n"
    "  growth=0.2, growth:NAME=1     growth a year\n"
    "  price:aws/*=1.1               factor on prices that are not signed yet\n"
    "  supply:aws/p5*=500            most units of each offer\n"
    "  without=gcp                   nothing of a vendor, or of an offer\n"
    "  risk_weight=0.5               how much the dear scenarios count\n"
    "  cvar_alpha=0.95               which of them are dear\n\n"
    "\b\nExample:\n  polysilicon plan what-if plan.json --set demand=1.3 --set without=gcp",
)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--set", "changes", multiple=True, required=True, metavar="NAME=VALUE",
              help="What is other; repeatable.")  # fmt: skip
@effort_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a plan file (.json).")
@json_option
def what_if(
    plan: Path, *, changes: tuple[str, ...], gap: float, time_s: float, output: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Solve PLAN (a plan file) again with changes, and print what is other."""
    if output is not None:
        check_other(output, [plan])
        check_name(output)
    before = read_plan(plan)
    every = [*before.changes, *changes]
    with solving(gap, time_s) as effort:
        after = planned(before.problem, every, source_of(before, str(plan)), catalog.load(),
                        effort, before.warm)  # fmt: skip
    if output is not None:
        write_plan(after, output)
    found = difference(before.plan, after.plan, list(changes))
    if as_json:
        emit_json(msgspec.to_builtins(after.plan) | {"difference": found})
    else:
        out().print(difference_page(found))
        if output is not None:
            out().print(f"plan: {output}", markup=False)
    if after.plan.status == "stopped":
        raise SystemExit(INTERRUPTED)


command.add_command(update)
