"""The step record: one row for each step, the contract between all parts of the project.

The event log, the ledger, workload files and the simulator's output all hold these columns, so that
each can be fed to the other. Unit suffixes are part of the names. Times are seconds since the start
of the workload (run, trace or simulation); `wait_s` is time off the CPU (network, a person).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

Kind = Literal["llm", "embed", "tool", "train"]
Outcome = Literal["ok", "error", "timeout", "cancelled", "refused"]

KINDS: tuple[str, ...] = get_args(Kind)
OUTCOMES: tuple[str, ...] = get_args(Outcome)


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one step; only its identity, name and kind must be.

    Attributes:
        task_id: the task that made the step.
        step_id: unique within the task.
        parent_ids: steps of the same task that ended before this one could begin.
        agent: name of the agent.
        name: the operation (`chat`, `search`, `code`, `prep`, …).
        kind: `llm`, `embed`, `tool` or `train`.
        model: model name of `llm`, `embed` and `train` steps.
        pool: the pool that served the step.
        offer: the offer whose machine ran it; `cpu_s` is core-seconds of that machine.
        region: where.
        data_class: what residency rules call its data.
        arrival_s: when its task arrived.
        ready_s: when its parents had ended.
        start_s: when it left the queue; of a tool, when a core took it up.
        first_token_s: when its first output token came.
        end_s: when it ended.
        prompt_tokens: tokens of the prompt, cached ones included.
        cached_tokens: of these, how many were found in a prefix cache.
        output_tokens: tokens generated.
        cpu_s: core-seconds.
        cores: cores that it could use at once.
        wait_s: seconds off the CPU while it ran.
        startup_s: seconds until its sandbox or process was ready, part of its service time; of
            `llm` and `embed` steps those until their model was loaded, which end before `start_s`.
        memory_bytes: peak memory.
        outcome: `ok`, `error`, `timeout`, `cancelled` or `refused`.
        cost_usd: dollars, from the offer's price and its share of the machine.
        energy_j: joules.
    """

    task_id: str
    step_id: str
    parent_ids: tuple[str, ...] = ()
    agent: str | None = None
    name: str
    kind: Kind
    model: str | None = None
    pool: str | None = None
    offer: str | None = None
    region: str | None = None
    data_class: str | None = None
    arrival_s: float | None = None
    ready_s: float | None = None
    start_s: float | None = None
    first_token_s: float | None = None
    end_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cpu_s: float | None = None
    cores: float | None = None
    wait_s: float | None = None
    startup_s: float | None = None
    memory_bytes: int | None = None
    outcome: Outcome | None = None
    cost_usd: float | None = None
    energy_j: float | None = None


COLUMNS: tuple[str, ...] = StepRecord.__struct_fields__
REQUIRED: tuple[str, ...] = ("task_id", "step_id", "name", "kind")


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of one task of a run; one line of the run's `tasks.jsonl`.

    Attributes:
        task_id: as in the step record.
        agent: name of the agent.
        input: what the agent was given.
        output: what it returned; None where it did not end well.
        ok: it ended as its agent means it to end.
        quality: 1.0 for the right outcome, 0.0 for the wrong one; None where nobody can tell.
        error: one line, where it failed.
        arrival_s: when it arrived, seconds since the start of the run.
        start_s: when its first step could begin.
        end_s: when it ended.
    """

    task_id: str
    agent: str
    input: Any
    output: Any = None
    ok: bool
    quality: float | None = None
    error: str | None = None
    arrival_s: float
    start_s: float
    end_s: float


class RunInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run was; its `run.json`.

    Attributes:
        run: the run's name, which is its folder's name.
        version: of Polysilicon.
        started_at: UTC, ISO 8601.
        agents: agent name → how it was named on the command line.
        model: model of `chat` steps.
        fleet: path of the fleet file, or None for this machine alone.
        policy: path of the policy file, or None where everything is allowed.
        offer: what the machine is priced as, in words.
        wall_s: seconds from start to end, over all resumptions; None while it runs.
        tasks: how many tasks it was given.
        finished: all of its tasks ended.
    """

    run: str
    version: str
    started_at: str
    agents: dict[str, str]
    model: str
    fleet: str | None = None
    policy: str | None = None
    offer: str = ""
    wall_s: float | None = None
    tasks: int = 0
    finished: bool = False
