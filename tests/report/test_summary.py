from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from synthetic_run import AGENTS, ELSEWHERE, make_run

from polysilicon.errors import InputError
from polysilicon.report.source import Source, load, of_folder
from polysilicon.report.summary import summarise
from polysilicon.workload.describe import describe
from polysilicon.workload.files import write
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

# The keys that the design promises for `demo --json`, `run --json` and `report --json`.
KEYS = {
    "tasks", "ok", "wall_s", "tasks_per_min", "steps", "prefix_reuse", "agents", "kinds",
    "elsewhere", "run", "report",
}  # fmt: skip


def test_the_keys_of_the_design(tmp_path: Path) -> None:
    run, _, _ = make_run(tmp_path / "demo")
    found = msgspec.to_builtins(summarise(run, ELSEWHERE))
    assert set(found) == KEYS
    assert set(found["agents"]["coder"]) == {"tasks", "ok", "quality", "p50_s", "p99_s", "cost_usd"}
    assert set(found["kinds"]["llm"]) == {"steps", "share_of_time"}
    assert set(found["elsewhere"][0]) >= {"offer", "usd_per_1000_tasks", "p50_s", "basis"}
    assert found["run"] == str(tmp_path / "demo")
    assert found["report"] == str(tmp_path / "demo" / "report.html")


def test_the_figures_are_those_of_the_records(tmp_path: Path) -> None:
    run, tasks, steps = make_run(tmp_path / "demo", seed=5)
    found = summarise(run, ELSEWHERE)
    assert (found.tasks, found.steps) == (len(tasks), len(steps))
    assert found.ok == sum(task.ok for task in tasks)
    assert found.tasks_per_min == pytest.approx(60 * len(tasks) / run.info().wall_s)
    assert set(found.agents) == set(AGENTS)
    for name, agent in found.agents.items():
        own = [task for task in tasks if task.agent == name]
        grades = [task.quality for task in own if task.quality is not None]
        assert agent.tasks == len(own)
        assert agent.ok == sum(task.ok for task in own)
        assert agent.quality == (pytest.approx(sum(grades) / len(grades)) if grades else None)
        assert agent.p50_s == sorted(task.end_s for task in own)[(len(own) + 1) // 2 - 1]
        cost = sum(step.cost_usd for step in steps if step.agent == name)
        assert agent.cost_usd == pytest.approx(cost)
    told = [
        step for step in steps if step.prompt_tokens is not None and step.cached_tokens is not None
    ]
    for pool, reuse in found.prefix_reuse.items():
        own = [step for step in told if step.pool == pool]
        assert reuse == pytest.approx(
            sum(step.cached_tokens for step in own) / sum(step.prompt_tokens for step in own)
        )
    assert set(found.prefix_reuse) == {step.pool for step in told}
    assert sum(kind.steps for kind in found.kinds.values()) == len(steps)
    assert sum(kind.share_of_time for kind in found.kinds.values()) == pytest.approx(1.0)
    assert [row.offer for row in found.elsewhere] == [row.offer for row in ELSEWHERE]


def test_a_workload_file_says_less(tmp_path: Path) -> None:
    run, tasks, _ = make_run(tmp_path / "demo")
    write(run.workload(), tmp_path / "w.parquet")
    source = load(tmp_path / "w.parquet")
    found = summarise(source)
    assert (found.tasks, found.ok) == (len(tasks), None)
    assert {agent.quality for agent in found.agents.values()} == {None}
    assert {agent.ok for agent in found.agents.values()} == {None}
    assert found.report == str(tmp_path / "w.html")
    description = describe(source.workload)
    assert found.wall_s == pytest.approx(description.p99_s)  # all arrive at 0, the last ends it


def test_steps_without_times_have_no_wall_time() -> None:
    source = load_records(StepRecord(task_id="t", step_id="0", name="x", kind="tool"))
    found = summarise(source, report=Path("r.html"))
    assert (found.wall_s, found.tasks_per_min, found.report) == (None, None, "r.html")
    assert found.kinds["tool"].share_of_time is None
    assert found.agents["(none)"].p50_s is None


def load_records(*records: StepRecord) -> Source:
    workload = Workload.from_records(records)
    return Source(name="w", path=Path("w"), report_path=Path("w.html"), workload=workload)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        load(tmp_path)
    run, _, _ = make_run(tmp_path / "demo")
    run.tasks_path.unlink()
    with pytest.raises(InputError, match=r"tasks\.jsonl: no such file"):
        of_folder(run)
