from __future__ import annotations

from pathlib import Path

from synthetic_run import HOSTILE, make_run

from polysilicon.report.samples import (
    MAX_FAILED,
    MAX_PER_AGENT,
    MAX_SAMPLES,
    clean,
    failures,
    pretty,
    samples,
    verdict,
)
from polysilicon.report.source import Source, of_folder
from polysilicon.workload.record import StepRecord, TaskRecord
from polysilicon.workload.workload import Workload


def task(number: int, **more: object) -> TaskRecord:
    fields = {"agent": "a", "input": {}, "ok": True, "arrival_s": 0.0, "start_s": 0.0, "end_s": 1.0}
    return TaskRecord(task_id=f"t{number}", **{**fields, **more})


def test_hostile_characters_are_replaced_and_text_is_cut() -> None:
    assert clean("a\x00b\u202ec\td\n") == "a\ufffdb\ufffdc\td\n"
    assert clean("x" * 2000, 10) == "x" * 10 + "… (cut: 2,000 characters in all)"
    assert pretty(HOSTILE).count("\ufffd") == 2


def test_values_as_people_read_them() -> None:
    assert pretty(None) == ""
    assert pretty("plain") == "plain"
    assert pretty({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'


def test_verdicts() -> None:
    assert verdict(task(0, ok=False)) == "failed"
    assert verdict(task(0)) == "ended"
    assert verdict(task(0, quality=1.0)) == "right"
    assert verdict(task(0, quality=0.0)) == "wrong"


def test_failures_are_listed_up_to_a_limit() -> None:
    tasks = [task(i, ok=False, error=None if i else "E: boom\u202e") for i in range(MAX_FAILED + 9)]
    found = failures([task(999), *tasks])
    assert len(found) == MAX_FAILED
    assert found[0].error == "E: boom\ufffd"
    assert found[1].error == "ended, but not as its agent means it to end"


def test_samples_show_each_verdict_of_each_agent(tmp_path: Path) -> None:
    run, tasks, steps = make_run(tmp_path / "demo")
    found = samples(of_folder(run))
    for name in ("coder", "support"):
        own = {t.task_id: t for t in tasks if t.agent == name}
        shown = [s for s in found if s.agent == name]
        assert len(shown) == MAX_PER_AGENT
        assert {s.verdict for s in shown} == {verdict(t) for t in own.values()}
    for sample in found:
        expected = [s.step_id for s in steps if s.task_id == sample.task_id]
        assert [s["step_id"] for s in sample.steps] == expected


def test_samples_are_bounded() -> None:
    tasks = tuple(task(i, agent=f"agent {i}") for i in range(100))
    steps = [StepRecord(task_id="t0", step_id=str(i), name="x", kind="tool") for i in range(50)]
    workload = Workload.from_records(steps)
    source = Source(
        name="n", path=Path("n"), report_path=Path("n.html"), workload=workload, tasks=tasks
    )
    found = samples(source)
    assert len(found) == MAX_SAMPLES
    assert (len(found[0].steps), found[0].steps_left_out) == (20, 30)


def test_a_workload_file_has_no_samples() -> None:
    workload = Workload.from_records([])
    source = Source(name="n", path=Path("n"), report_path=Path("n.html"), workload=workload)
    assert samples(source) == []
