"""The demo in small, all four agents for real, and the verbs on the run that it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from polysilicon.cli import main
from polysilicon.cli.demo import TASKS
from polysilicon.runtime.loader import bundled_names, load_agent, sample_inputs
from polysilicon.workload.run_folder import RunFolder

SCRIPT = Path(sys.executable).parent / "polysilicon"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("demo")
    command = [SCRIPT, "demo", "--limit", "1", "--json"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "folder": folder}


def test_the_demo_takes_at_least_forty_tasks_of_all_agents() -> None:
    assert set(TASKS) == set(bundled_names()) - {"posttrain"}  # which takes minutes, and PyTorch
    assert sum(TASKS.values()) >= 40
    for name, count in TASKS.items():
        assert len(sample_inputs(load_agent(name))) >= count


def test_keys_and_sums(demo: dict) -> None:
    assert (demo["tasks"], demo["ok"]) == (4, 4)
    assert demo["tasks_per_min"] == pytest.approx(60 * 4 / demo["wall_s"])
    assert set(demo["agents"]) == set(TASKS)
    for agent in demo["agents"].values():
        assert {"tasks", "ok", "quality", "p50_s", "p99_s", "cost_usd"} <= set(agent)
        assert agent["cost_usd"] > 0
        assert 0 <= agent["quality"] <= 1
    assert {"llm", "tool", "embed"} <= set(demo["kinds"])
    assert sum(kind["steps"] for kind in demo["kinds"].values()) == demo["steps"]
    assert sum(kind["share_of_time"] for kind in demo["kinds"].values()) == pytest.approx(1)


def test_the_same_work_elsewhere(demo: dict) -> None:
    rows = demo["elsewhere"]
    assert len(rows) >= 8
    offers = " ".join(row["offer"] for row in rows)
    for part in ("m9g", "m7i", "g2-", "p5", "inf2", "trn1", "tpu-v6e", "local"):
        assert part in offers, offers
    for row in rows:
        assert row["basis"] in {"measured", "calibrated", "roofline"}
        assert row["usd_per_1000_tasks"] > 0
        assert row["low_s"] <= row["p50_s"] <= row["high_s"]


def test_the_agents_answer_with_the_real_model(demo: dict) -> None:
    tasks = RunFolder(demo["folder"] / demo["run"]).tasks()
    found = {task.agent: task for task in tasks}
    assert set(found) == set(TASKS)
    support, researcher = found["support"], found["researcher"]
    assert support.quality in (0.0, 1.0)
    assert support.output["reply"]
    assert support.output["action"] in ("refund", "replace", "escalate", "answer")
    assert researcher.output["retrieval_hit"] is True
    assert set(researcher.output["citations"]) <= set(researcher.output["hits"])
    assert researcher.quality in (0.0, 1.0)


@pytest.mark.parametrize("verb", ["describe", "report"])
def test_verbs_on_the_run(
    demo: dict, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo["folder"])
    for options in ((), ("--json",)):
        with pytest.raises(SystemExit) as stop:
            main([verb, demo["run"], *options])
        out, err = capsys.readouterr()
        assert not stop.value.code, err
        assert out.strip()
        if options:
            assert json.loads(out)


def test_the_report_needs_no_network(demo: dict) -> None:
    page = (demo["folder"] / demo["report"]).read_text()
    for forbidden in ("<script", "http://", "https://", "<link", "@import", "url("):
        assert forbidden not in page.replace("http://www.w3.org/2000/svg", ""), forbidden
    assert page.count("<svg") >= 3
