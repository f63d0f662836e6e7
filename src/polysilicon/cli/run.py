"""`polysilicon run`: an agent over JSONL inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from polysilicon.catalog.policy import read_policy
from polysilicon.cli.output import json_option
from polysilicon.errors import InputError
from polysilicon.runtime.folder import new_folder
from polysilicon.runtime.inputs import read_inputs
from polysilicon.runtime.loader import load_agent, sample_inputs
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.types import Agent
from polysilicon.workload.run_folder import RunFolder


@click.command(
    epilog="Example:  polysilicon run support --limit 4\n\nAn agent of your own is an async "
    "function in a file:  polysilicon run examples/hello.py:hello --input examples/names.jsonl"
)
@click.argument("agent", required=False)
@click.option(
    "--input",
    "input_path",
    type=Path,
    help="JSONL inputs; - is standard input. Default: the agent's samples.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N inputs.")
@click.option(
    "--resume", "resume", type=Path, help="Go on with an interrupted run, given by its folder."
)
@click.option("--model", help="Model name, .gguf path or URL. Default: smollm2-135m-instruct.")
@click.option(
    "--fleet", type=Path, help="Fleet file (TOML): pools and endpoints. Default: this machine."
)
@click.option(
    "--policy",
    type=Path,
    help="Policy file (TOML): SLOs, where data may be, shares of vendors. Default: all is allowed.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Tasks at once.",
)
@click.option(
    "--task-timeout",
    "task_timeout_s",
    type=click.FloatRange(min=0.1),
    default=1800.0,
    show_default=True,
    help="Seconds a task may take.",
)
@click.option(
    "--runs", type=Path, default=Path("runs"), show_default=True, help="Where run folders are made."
)
@click.option(
    "--journal",
    metavar="ADDRESS",
    help="postgresql://… of a database that keeps the journal; also by POLYSILICON_JOURNAL. "
    "Default: a file in the run folder.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="A Ray cluster whose nodes are machines of the fleet: host:port or auto; local starts one "
    "on this machine. See docs/ray.md.",
)
@json_option
def command(
    agent: str | None,
    input_path: Path | None,
    limit: int | None,
    resume: Path | None,
    runs: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Run AGENT (a bundled name, file.py:function or package.module:function) over inputs.

    Every step is journaled before its result is used: an interrupted run goes on with --resume and
    repeats no step that ended.
    """
    from polysilicon.cli.running import (  # noqa: PLC0415 - heavy
        fetch_model,
        in_cluster,
        run_and_report,
        say_setup,
    )

    for name in ("model", "fleet", "policy"):
        options[name] = here(options[name])
    settings = RunOptions(**options)
    if resume is not None:
        run = _resumed(resume, settings, agent, input_path, limit)
        run_and_report(run, as_json=as_json)
        return
    if agent is None:
        raise InputError("no agent given", mend="give an agent, or --resume RUN")
    loaded = load_agent(agent)
    if settings.policy is not None:
        _check_policy(settings.policy, loaded)
    inputs = list(read_inputs(input_path, loaded)) if input_path else sample_inputs(loaded)
    if not inputs:
        raise InputError("there is no input", where=str(input_path or agent))
    job = Job(agent=loaded, given_as=here(agent) or agent, inputs=inputs[:limit])
    fetch_model(settings.model, settings.fleet, cluster=settings.ray is not None)
    say_setup(settings.model, settings.fleet)
    with in_cluster(settings.ray, settings.model, settings.fleet):
        run = Run(new_folder(runs, loaded.name), [job], settings, late=True)
        run_and_report(run, as_json=as_json)


def _check_policy(path: str, agent: Agent) -> None:
    """Read a policy before a folder is made, and say what of it is for nobody here.

    Raises:
        InputError: it cannot be read, or is wrong.
    """
    policy = read_policy(Path(path))
    others = [f"[[slo]] of {slo.agent!r}" for slo in policy.slo if slo.agent != agent.name]
    others += [
        f"[[residency]] of {rule.data_class!r}"
        for rule in policy.residency
        if rule.data_class != agent.data_class
    ]
    if others:
        has = f"data class {agent.data_class!r}" if agent.data_class else "no data class"
        told = ", ".join(others)
        click.echo(f"note: {told}: not this agent's, which is {agent.name!r} with {has}", err=True)


def here(given: Path | str | None) -> str | None:
    """Return a file that the user named, function and all, so that it is found from any folder."""
    if given is None:
        return None
    path, colon, rest = str(given).partition(":")
    return f"{Path(path).resolve()}{colon}{rest}" if Path(path).is_file() else str(given)


def _resumed(
    folder: Path,
    settings: RunOptions,
    agent: str | None,
    input_path: Path | None,
    limit: int | None,
) -> Run:
    """Return the interrupted run in `folder`, with its agents, model and fleet."""
    if agent is not None or input_path is not None or limit is not None:
        mend = "the run has its own"
        raise InputError("--resume takes no agent, inputs or limit", mend=mend)
    if not (folder / "run.json").exists():
        raise InputError("this is not a run folder", where=str(folder), mend="see the folder runs/")
    info = RunFolder(folder).info()
    kept = RunOptions(
        model=settings.model or info.model,
        fleet=settings.fleet or info.fleet,
        policy=settings.policy or info.policy,
        concurrency=settings.concurrency,
        task_timeout_s=settings.task_timeout_s,
        journal=settings.journal,
        ray=settings.ray,
    )
    jobs = [Job(agent=load_agent(given), given_as=given) for given in info.agents.values()]
    return Run(folder, jobs, kept, late=True)
