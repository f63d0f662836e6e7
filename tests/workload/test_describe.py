from __future__ import annotations

import msgspec
import pytest

from polysilicon.workload.describe import describe
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

# The keys that the design promises for `describe --json`.
KEYS = {
    "tasks", "steps", "kinds", "models", "arrival_rate_per_s", "p50_s", "p99_s", "llm_share",
    "tool_share", "prefix_reuse",
}  # fmt: skip


def llm(task: str, number: int, start_s: float, end_s: float, **more: object) -> StepRecord:
    return StepRecord(
        task_id=task, step_id=str(number), name="chat", kind="llm", agent="coder", model="m",
        start_s=start_s, end_s=end_s, **more,
    )  # fmt: skip


def tool(task: str, number: int, start_s: float, end_s: float, **more: object) -> StepRecord:
    return StepRecord(
        task_id=task, step_id=str(number), name="code", kind="tool", agent="coder",
        start_s=start_s, end_s=end_s, **more,
    )  # fmt: skip


RECORDS = [
    llm("a", 0, 0.0, 3.0, arrival_s=0.0, prompt_tokens=100, cached_tokens=0, output_tokens=9),
    tool("a", 1, 3.0, 4.0, arrival_s=0.0, cost_usd=0.5, outcome="timeout"),
    llm("b", 0, 2.5, 5.5, arrival_s=2.0, prompt_tokens=100, cached_tokens=50, cost_usd=0.25),
    llm("c", 0, 4.0, 7.0, arrival_s=4.0, prompt_tokens=40, cost_usd=0.25, outcome="ok"),
]


def test_the_figures_of_a_small_workload() -> None:
    found = describe(Workload.from_records(RECORDS))
    assert (found.tasks, found.steps) == (3, 4)
    assert found.kinds == {"llm": 3, "tool": 1}
    assert found.models == {"m": 3}
    assert found.agents == {"coder": 3}
    assert found.outcomes == {"(none)": 2, "ok": 1, "timeout": 1}
    assert found.arrival_rate_per_s == pytest.approx(0.5)  # two gaps in four seconds
    assert (found.p50_s, found.p99_s) == (3.5, 4.0)
    assert found.llm_share == pytest.approx(0.9)
    assert found.tool_share == pytest.approx(0.1)
    assert found.prefix_reuse == pytest.approx(0.25)  # task c does not tell, so it is left out
    assert found.service_s == pytest.approx(10.0)
    assert (found.cost_usd, found.unpriced) == (1.0, 1)
    assert (found.prompt_tokens.n, found.prompt_tokens.p50, found.prompt_tokens.mean) == (
        3,
        100,
        80,
    )
    assert (found.steps_per_task.max, found.output_tokens.n) == (2.0, 1)


def test_groups_by_agent_kind_and_name() -> None:
    groups = describe(Workload.from_records(RECORDS)).groups
    assert [(g.agent, g.kind, g.name, g.steps) for g in groups] == [
        ("coder", "llm", "chat", 3),
        ("coder", "tool", "code", 1),
    ]
    chat, code = groups
    assert (chat.p50_s, chat.time_s, chat.unpriced, chat.failed) == (3.0, 9.0, 1, 0)
    assert chat.share_of_time == pytest.approx(0.9)
    assert (chat.cost_usd, code.cost_usd, code.failed) == (0.5, 0.5, 1)


def test_the_keys_of_the_design() -> None:
    assert set(msgspec.to_builtins(describe(Workload.from_records(RECORDS)))) >= KEYS


def test_what_is_not_known_stays_blank() -> None:
    bare = StepRecord(task_id="t", step_id="0", name="x", kind="train")
    found = describe(Workload.from_records([bare]))
    blanks = (
        found.arrival_rate_per_s, found.p50_s, found.p99_s, found.llm_share, found.tool_share,
        found.prefix_reuse, found.cost_usd, found.prompt_tokens.mean, found.groups[0].p50_s,
        found.groups[0].share_of_time, found.groups[0].cost_usd,
    )  # fmt: skip
    assert set(blanks) == {None}
    assert found.agents == {"(none)": 1}
    assert found.unpriced == 1


def test_an_empty_workload() -> None:
    found = describe(Workload.from_records([]))
    assert (found.tasks, found.steps, found.groups, found.kinds) == (0, 0, [], {})
    assert (found.p50_s, found.cost_usd, found.arrival_rate_per_s) == (None, None, None)


def test_tasks_that_arrive_at_once_have_no_rate() -> None:
    both = [tool("a", 0, 0.0, 1.0, arrival_s=0.0), tool("b", 0, 0.0, 1.0, arrival_s=0.0)]
    assert describe(Workload.from_records(both)).arrival_rate_per_s is None
