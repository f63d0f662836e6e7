"""`polysilicon serve`: the gateway."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click

from polysilicon.cli.output import emit_json, json_option, progress
from polysilicon.cli.parts import Verbs


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    epilog="Example:  polysilicon serve --port 8000\n\nThen, from any program that speaks OpenAI's "
    "protocol:  OPENAI_BASE_URL=http://127.0.0.1:8000/v1\n\nTwo that share their tasks:  "
    "polysilicon serve --port 8001 --folder runs/one --journal postgresql://user@host/database  "
    "and the same with --port 8002 --folder runs/two",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 is any."
)
@click.option("--model", help="Model name, .gguf path or URL. Default: smollm2-135m-instruct.")
@click.option("--fleet", type=Path, help="Fleet file (TOML), reloaded when it changes.")
@click.option("--policy", type=Path, help="Policy file (TOML), reloaded when it changes.")
@click.option("--keys", type=Path, help="File of keys (TOML); needed beyond loopback.")
@click.option("--name", "names", multiple=True, help="Host name that callers use; repeatable.")
@click.option("--tls-cert", type=Path, help="Certificate chain (PEM).")
@click.option("--tls-key", type=Path, help="Its private key (PEM).")
@click.option(
    "--folder",
    type=Path,
    default=Path("runs/gateway"),
    show_default=True,
    help="Journal, ledger, audit log; kept over restarts. One gateway a folder.",
)
@click.option(
    "--journal", metavar="ADDRESS",
    help="postgresql://user@host/database: all gateways given the same one share tasks, "
    "idempotency keys and budgets, and take over from one that dies. Or POLYSILICON_JOURNAL.",
)  # fmt: skip
@click.option(
    "--lease", "lease_s", type=click.FloatRange(min=0.2), default=10.0, show_default=True,
    metavar="SECONDS",
    help="With --journal: without a sign of life for so long, others take this one's tasks.",
)  # fmt: skip
@click.option("--placement", type=Path, help="Shown on the dashboard: of `place --json`.")
@click.option("--plan", type=Path, help="Shown on the dashboard: of `plan PROBLEM -o`.")
@click.option(
    "--agent", "agents", multiple=True, metavar="AGENT",
    help="An agent that /v1/tasks may run beside the bundled ones: file.py:function or "
    "package.module:function; repeatable.",
)  # fmt: skip
@click.option(
    "--concurrency", "tasks_at_once", type=click.IntRange(min=1), default=16, show_default=True,
    help="Tasks at once.",
)  # fmt: skip
@click.option(
    "--task-timeout", "task_timeout_s", type=click.FloatRange(min=0.1), default=1800.0,
    show_default=True, help="Seconds that a task may take.",
)  # fmt: skip
@click.option(
    "--otlp", metavar="URL",
    help="Send a span for each step to an OTLP endpoint (HTTP, protobuf), such as "
    "http://127.0.0.1:4318; headers by OTEL_EXPORTER_OTLP_HEADERS.",
)  # fmt: skip
@click.option(
    "--mcp-stdio", is_flag=True,
    help="Serve only the tools of MCP, on stdin and stdout, and only to whoever starts this.",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=600.0, show_default=True,
    help="Seconds that one step may take.",
)  # fmt: skip
@click.option(
    "--keep", "keep_days", type=click.FloatRange(min=0, min_open=True), default=30.0,
    show_default=True, metavar="DAYS",
    help="How long steps and tasks that ended are kept; their sums stay.",
)  # fmt: skip
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="A Ray cluster whose nodes are machines of the fleet: host:port or auto; local starts one "
    "on this machine. See docs/ray.md.",
)
@click.option(
    "--drain", "drain_s", type=click.FloatRange(min=0), default=30.0, show_default=True,
    help="Seconds that calls under way may go on after SIGTERM.",
)  # fmt: skip
@click.pass_context
def command(ctx: click.Context, /, *, mcp_stdio: bool, **options: Any) -> None:
    """Serve OpenAI's protocol: each call is a step, placed, metered and journaled.

    Without --fleet this machine answers with its own model. SIGHUP reads the files anew, SIGTERM
    finishes what is under way and ends.
    """
    if ctx.invoked_subcommand is not None:
        return
    import uvloop  # noqa: PLC0415 - heavy

    from polysilicon.cli.running import fetch_model, in_cluster  # noqa: PLC0415 - heavy
    from polysilicon.gateway.logs import log_to_stderr  # noqa: PLC0415 - with those below
    from polysilicon.gateway.server import check, check_files, serve  # noqa: PLC0415 - heavy
    from polysilicon.gateway.settings import Settings  # noqa: PLC0415 - heavy
    from polysilicon.gateway.state import Gateway  # noqa: PLC0415 - heavy

    settings = Settings(**options)
    check(settings)
    check_files(settings)
    fleet = str(settings.fleet) if settings.fleet else None
    fetch_model(settings.model, fleet, cluster=settings.ray is not None)
    log_to_stderr()

    def started(gateway: Gateway, address: str) -> None:
        names = ", ".join(pool.name for pool in gateway.machine.pools)
        served = f"{address}/v1 serves {gateway.machine.model} (pools: {names})"
        text = f"{served}; {address}/ is the dashboard; Ctrl-C ends"
        progress().print(text, markup=False, soft_wrap=True)
        gc.collect()
        gc.freeze()  # what is there now stays; looking through it again would hold up all calls

    with in_cluster(settings.ray, settings.model, fleet):
        if mcp_stdio:
            from polysilicon.gateway.mcp.server import serve_stdio  # noqa: PLC0415 - heavy

            uvloop.run(serve_stdio(settings))
            return
        uvloop.run(serve(settings, started))


@command.command("keys", epilog="Example:  polysilicon serve keys alice --file keys.toml")
@click.argument("name")
@click.option("--file", "path", type=Path, required=True, help="File of keys; made where none is.")
@click.option("--budget", "budget_usd", type=click.FloatRange(min=0), help="Dollars a period.")
@click.option("--period", type=click.Choice(["day", "month", "total"]), default="month")
@click.option("--rate", "requests_per_min", type=click.FloatRange(min=1), help="Calls a minute.")
@click.option("--at-once", type=click.IntRange(min=1), help="Calls at once, tasks among them.")
@click.option(
    "--pool", "pools", multiple=True, default=("*",), help="A pool it may use; repeatable."
)
@click.option("--admin", is_flag=True, help="It may see what others do.")
@click.option("--join", is_flag=True, help="It may join machines: `pool join`.")
@json_option
def keys(name: str, path: Path, as_json: bool, **limits: Any) -> None:
    """Make a key called NAME, add its hash to a file of keys, and print it, this once."""
    from polysilicon.gateway.access import add_key  # noqa: PLC0415 - heavy

    key = add_key(path, name, **limits)
    if as_json:
        emit_json({"name": name, "key": key, "file": str(path)})
    else:
        click.echo(key)
