"""The `polysilicon` command: finds the verb's module, turns errors into one line and a code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

import click

from polysilicon.cli.parts import Parts
from polysilicon.errors import PolysiliconError, visible

VERBS = (
    "demo",
    "run",
    "serve",
    "pool",
    "models",
    "calibrate",
    "engine",
    "bench",
    "estimate",
    "validate",
    "import",
    "describe",
    "workload",
    "place",
    "simulate",
    "plan",
    "catalog",
    "report",
    "export",
)
MODULES = {"import": "import_traces"}
"""Modules of verbs that are words of Python; the others have the name of their verb."""

INTERRUPTED = 130
TERMINATED = 128 + signal.SIGTERM


class _Terminated(SystemExit):
    """SIGTERM: ends the command as Ctrl-C does, so that no temporary file is left."""


@click.group(
    cls=Parts,
    parts={verb: MODULES.get(verb, verb) for verb in VERBS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with:  polysilicon demo",
)
@click.version_option(package_name="polysilicon")
def app() -> None:
    """Run AI agents on the cheapest silicon that is fast enough, and see what silicon to buy."""


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Raise `_Terminated` on SIGTERM, unless who started this process has it ignored."""
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(_number: int, _frame: object) -> Never:
    raise _Terminated(TERMINATED)


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Exits 0, 1, 2 (user's mistake), 3 (infeasible), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    try:
        with _ending_on_sigterm():
            code = app.main(args=args, prog_name="polysilicon", standalone_mode=False)
    except PolysiliconError as error:
        click.echo(f"error: {visible(str(error))}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        code = 0
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except _Terminated:
        click.echo("interrupted", err=True)
        code = TERMINATED
    sys.exit(code if isinstance(code, int) else 0)
