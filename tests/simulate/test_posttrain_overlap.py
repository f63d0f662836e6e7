"""The example that tells what overlapping the phases of post-training gives."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "posttrain_overlap.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("posttrain_overlap", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes = {"ROUNDS": 3, "ANSWERS": 24, "HELD_BACK": 8, "TRAINED": 12}
    for name, value in sizes.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_both_ways_do_the_same_work_in_another_order(example: ModuleType) -> None:
    turns, over = (list(w.steps()) for w in (example.Loop().turns(), example.Loop().overlapped()))
    what = [
        Counter((s.name, s.output_tokens, s.prompt_tokens, s.cpu_s) for s in steps
                if s.name != "end") for steps in (turns, over)
    ]  # fmt: skip
    assert what[0] == what[1]
    assert sum(what[0].values()) == 3 * (2 * 24 + 1) + 4 * 2 * 8

    def behind(steps: list, step_id: str) -> set[str]:
        """Return the names of the steps that a step waits for, near and far."""
        known, found, todo = {s.step_id: s for s in steps}, set[str](), [step_id]
        while todo:
            for parent in known[todo.pop()].parent_ids:
                if parent not in found:
                    found.add(parent)
                    todo.append(parent)
        return found

    for steps, sampled_beside in ((turns, 0), (over, 1)):
        trained = [s.step_id for s in steps if s.name == "lora"]
        last = [s for s in steps if s.name == "answer"][-1]
        # The last answers wait for both trainings before them, or for all but the newest.
        waits = behind(steps, last.step_id) & set(trained)
        assert waits == set(trained[: 2 - sampled_beside])


def test_overlapped_it_is_faster(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "TRAINERS", example.TRAINERS[-1:])
    example.main()
    row = next(
        line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.strip().startswith("gcp/")
    )
    turns_s, over_s, times = float(row[1]), float(row[3]), float(row[5])
    assert over_s < turns_s
    assert 1.0 < times < 2.0
