"""The step record: one row for each step, the contract between all parts of the project.

The event log, the ledger, workload files and the simulator's output all hold these columns, so that
each can be fed to the other. Unit suffixes are part of the names. Times are seconds since the start
of the workload (run, trace or simulation); `wait_s` is time off the CPU (network, a person).
"""

from __future__ import annotations

from typing import Literal, get_args

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
        start_s: when it left the queue.
        first_token_s: when its first output token came.
        end_s: when it ended.
        prompt_tokens: tokens of the prompt, cached ones included.
        cached_tokens: of these, how many were found in a prefix cache.
        output_tokens: tokens generated.
        cpu_s: core-seconds.
        cores: cores that it could use at once.
        wait_s: seconds off the CPU while it ran.
        startup_s: seconds until its sandbox or process was ready, part of its service time.
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
