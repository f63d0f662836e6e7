"""`polysilicon demo`: the four bundled agents for real, on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from polysilicon.cli.output import json_option

TASKS = {"support": 16, "coder": 10, "researcher": 12, "pipeline": 4}
"""How many of each agent's inputs the demo takes: at least 40, under three minutes on two cores."""


@click.command(epilog="Example:  polysilicon demo --json > demo.json")
@click.option("--model", help="Model name, .gguf path or URL. Default: smollm2-135m-instruct.")
@click.option(
    "--fleet", type=Path, help="Fleet file (TOML): pools and endpoints. Default: this machine."
)
@click.option(
    "--runs",
    type=Path,
    default=Path("runs"),
    show_default=True,
    help="Where the run folder is made.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N tasks of each agent.")
@json_option
def command(
    model: str | None, fleet: Path | None, runs: Path, limit: int | None, as_json: bool
) -> None:
    """Run the bundled agents for real here: what each step took, cost, and would cost elsewhere."""
    from polysilicon.cli.run import here  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.cli.running import fetch_model, run_and_report, say_setup  # noqa: PLC0415
    from polysilicon.runtime.folder import new_folder  # noqa: PLC0415
    from polysilicon.runtime.loader import load_agent, sample_inputs  # noqa: PLC0415
    from polysilicon.runtime.run import Job, Run, RunOptions  # noqa: PLC0415

    jobs = []
    for name, count in TASKS.items():
        agent = load_agent(name)
        inputs = sample_inputs(agent)[:count][:limit]
        jobs.append(Job(agent=agent, given_as=name, inputs=inputs))
    options = RunOptions(model=here(model), fleet=here(fleet))
    fetch_model(options.model, options.fleet)
    say_setup(options.model, options.fleet)
    run_and_report(Run(new_folder(runs, "demo"), jobs, options), as_json=as_json)
