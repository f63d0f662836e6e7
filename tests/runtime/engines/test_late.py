"""The local engine is loaded when the first step asks it; what is known before is told before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.engines import late
from polysilicon.runtime.engines.late import Late, UnloadedError
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.folder import new_folder
from polysilicon.runtime.gates import Gate
from polysilicon.runtime.loader import load_agent
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.types import ChatRequest, ChatResult
from polysilicon.runtime.watchdog import Watchdog
from polysilicon.workload.run_folder import RunFolder

SAMPLES = Path(__file__).resolve().parents[2] / "agent_samples.py"
LIMIT_S = 2.0
"""Of a task that is asked twice, on a busy machine."""

HELLO = ChatRequest(messages=({"role": "user", "content": "Hello!"},))


class Loaded:
    """What answers once it is loaded."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = False

    async def chat(self, request: ChatRequest, on_token: Any = None) -> ChatResult:
        self.asked += 1
        return ChatResult(text=f"answer {self.asked}", prompt_tokens=3, output_tokens=2)

    async def close(self) -> None:
        self.closed = True


def run_of(
    folder: Path, agent: str, inputs: list[dict[str, Any]], options: RunOptions | None = None
) -> Run:
    loaded = load_agent(f"{SAMPLES}:{agent}")
    job = Job(agent=loaded, given_as=f"{SAMPLES}:{agent}", inputs=inputs)
    return Run(new_folder(folder, agent), [job], options or RunOptions(), late=True)


def opens(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> None:
    monkeypatch.setattr(late, "open_engine", lambda *_given, **_options: work())


def test_it_is_loaded_once_by_the_first_that_ask(
    monkeypatch: pytest.MonkeyPatch, local_model: Path
) -> None:
    opened: list[Loaded] = []
    phases: list[str] = []

    def load() -> Loaded:
        opened.append(Loaded())
        return opened[-1]

    async def scenario() -> list[ChatResult]:
        engine = Late(local_model, 4, Setup(threads=1))
        assert (engine.model, engine.concurrency, engine.threads) == (
            "smollm2-135m-instruct", 4, 1,
        )  # fmt: skip
        engine.tells = phases.append
        assert not opened
        found = await asyncio.gather(*(engine.chat(HELLO) for _ in range(3)))
        await engine.close()
        return found

    opens(monkeypatch, load)
    assert len(asyncio.run(scenario())) == 3
    (one,) = opened
    assert (one.asked, one.closed) == (3, True)
    assert phases == ["loading the model", "running"]


def test_a_run_whose_agent_asks_no_model_loads_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_model: Path
) -> None:
    opens(monkeypatch, lambda: pytest.fail("it is loaded"))
    run = run_of(tmp_path, "count", [{"path": str(tmp_path / "notes")}])
    assert all(task.ok for task in asyncio.run(run.execute()).tasks())


def test_a_run_loads_the_model_when_its_agent_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_model: Path
) -> None:
    phases: list[str] = []
    run = run_of(tmp_path, "chatty", [{"text": "Hello!"}] * 2)

    def load() -> Loaded:
        phases.append(run.progress.phase)
        return Loaded()

    opens(monkeypatch, load)
    folder = asyncio.run(run.execute())
    assert phases == ["loading the model"]
    assert all(task.ok for task in folder.tasks())
    assert [step.outcome for step in folder.workload().steps()] == ["ok"] * 4


def test_loading_is_told_and_neither_service_nor_time_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_model: Path
) -> None:
    events: list[str] = []
    enter = Gate.enter

    async def enters(gate: Gate, *given: Any, **options: Any) -> None:
        events.append("a step enters")
        await enter(gate, *given, **options)

    def load() -> Loaded:
        time.sleep(1.25 * LIMIT_S)
        events.append("it is loaded")
        return Loaded()

    monkeypatch.setattr(Gate, "enter", enters)
    opens(monkeypatch, load)
    options = RunOptions(task_timeout_s=LIMIT_S)
    folder = asyncio.run(run_of(tmp_path, "chatty", [{"text": "Hi!"}] * 2, options).execute())
    # In a slot it would count as an engine that computes, and take cores from tools.
    assert events == ["it is loaded", *["a step enters"] * 4]
    assert [task.error for task in folder.tasks()] == [None, None]
    steps = sorted(folder.workload().steps(), key=lambda step: step.ready_s)
    first, later = steps[:2], steps[2:]
    assert all(step.ready_s + step.startup_s <= step.start_s for step in first)
    assert min(step.startup_s for step in first) >= LIMIT_S
    assert [step.startup_s for step in later] == [None, None]


def test_a_run_blames_no_agent_while_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_model: Path
) -> None:
    rests: list[bool] = []
    monkeypatch.setattr(Watchdog, "rest", lambda _, *, resting: rests.append(resting))

    def load() -> Loaded:
        assert rests == [True]
        return Loaded()

    opens(monkeypatch, load)
    folder = asyncio.run(run_of(tmp_path, "chatty", [{"text": "Hi!"}]).execute())
    assert all(task.ok for task in folder.tasks())
    assert rests == [True, False]


def test_a_model_that_cannot_be_loaded_after_all_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_model: Path
) -> None:
    def fail() -> Any:
        raise InputError("llama.cpp cannot load the model", where="m.gguf", mend="pull it again")

    opens(monkeypatch, fail)
    run = run_of(tmp_path, "chatty", [{"text": "Hello!"}] * 3)
    with pytest.raises(UnloadedError) as caught:
        asyncio.run(run.execute())
    assert str(caught.value) == "m.gguf: llama.cpp cannot load the model; pull it again"
    assert caught.value.exit_code == 2
    folder = RunFolder(run.folder)
    assert not folder.info().finished  # it can go on with another file
    assert not folder.tasks()


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_file_that_is_cut_is_told_before_anything_begins(
    tmp_path: Path, local_model: Path, share: float
) -> None:
    cut = tmp_path / "cut.gguf"
    with local_model.open("rb") as source:
        cut.write_bytes(source.read(int(local_model.stat().st_size * share)))
    with pytest.raises(InputError, match="cut.gguf: llama.cpp cannot load the model"):
        Late(cut, 4, Setup(threads=1))
    with pytest.raises(InputError, match="cannot read the model"):
        Late(tmp_path / "none.gguf", 4, Setup(threads=1))
