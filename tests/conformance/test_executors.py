"""Every executor passes the same suite: this machine, and machines of a Ray cluster.

Sandboxes of machines that joined a gateway pass what is in it about code; they do nothing else. And
what only a cluster has: nodes that are lost and that join, and a run that goes on over that.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import psutil
import pytest

from executor_jobs import (
    add,
    add_later,
    die,
    everything,
    fail,
    fail_later,
    length,
    niceness,
    not_json,
    notes,
    sleep_long,
    spin,
    spin_noted,
    text_of,
)  # fmt: skip
from polysilicon import Agent
from polysilicon.catalog import load
from polysilicon.catalog.fleet import OwnPrice, Pool
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.cli import main
from polysilicon.errors import InputError, LostError, StepTimeoutError, ToolError
from polysilicon.gateway.access import add_key
from polysilicon.gateway.joined.far import FarSandboxes
from polysilicon.runtime import search
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.here import Here
from polysilicon.runtime.jobs import Await, Call, Code, Done, Executor, Search, Words
from polysilicon.runtime.meter import TOLD
from polysilicon.runtime.priority import TOOL_NICE, yield_to_engine
from polysilicon.runtime.results import encode_result
from polysilicon.runtime.run import Job as AgentJob
from polysilicon.runtime.run import Run, RunOptions
from polysilicon.runtime.scope import Usage
from polysilicon.runtime.types import ChatRequest, Document, Limits
from polysilicon.workload.run_folder import RunFolder
from ray_nodes import Nodes, missing
from scripted_endpoint import Endpoint
from served_gateway import TOOLS_HERE, serving

OFFER = "lab/box"
RAY_MARKS = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Scenario = Callable[[Executor], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head, and two machines of one core: of OFFER and of `local`."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with Nodes() as cluster:
        cluster.add(OFFER)
        yield cluster


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=RAY_MARKS)])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Scenario], None]]:
    """Run a scenario with the executor, all in one loop: a machine takes seconds to start."""
    with asyncio.Runner() as runner:
        if request.param == "local":
            here = Here.opened(1)
            yield lambda scenario: runner.run(scenario(here))
            runner.run(here.close())
            return
        nodes: Nodes = request.getfixturevalue("nodes")
        from polysilicon.runtime.cluster.cluster import Cluster  # noqa: PLC0415 - an extra
        from polysilicon.runtime.cluster.machines import Machines  # noqa: PLC0415 - an extra

        pool = Pool(name="box", offer=OFFER, serves=("tool:*",))
        cluster = Cluster(nodes.address, [pool], 2)

        async def opened() -> Machines:
            machines = Machines(cluster, pool)
            assert (await machines.opened()).cores == 1
            return machines

        machines = runner.run(opened())

        def release() -> None:
            runner.run(machines.close())
            cluster.close()

        nodes.release = release
        yield lambda scenario: runner.run(scenario(machines))
        nodes.released()


def value(done: Done) -> Any:
    """Return a result as the journal would give it."""
    return msgspec.msgpack.decode(encode_result(done.result))


def call(fn: Callable[..., Any], *args: Any, timeout_s: float = 30.0, **kwargs: Any) -> Call:
    return Call(fn, args, kwargs, timeout_s)


def test_results_core_seconds_and_niceness(run) -> None:
    async def scenario(executor: Executor) -> None:
        assert value(await executor.run(call(add, 1, b=2))) == 3
        before_s = time.monotonic()
        spun = await executor.run(call(spin, 0.2))
        assert 0.19 < spun.cpu_s < 0.6
        assert before_s <= spun.begin_s < spun.end_s <= time.monotonic()
        assert spun.end_s - spun.begin_s > 0.19
        nice = await executor.run(call(niceness))
        assert value(nice) == max(os.nice(0), TOOL_NICE)
        front = await executor.run(call(niceness), front=True)
        assert value(front) < TOOL_NICE

    run(scenario)


def test_what_a_function_raises_is_one_line(run) -> None:
    async def scenario(executor: Executor) -> None:
        with pytest.raises(ToolError, match="^ValueError: no such order$"):
            await executor.run(call(fail, "no such order"))
        with pytest.raises(ToolError, match="TypeError"):
            await executor.run(call(not_json))
        with pytest.raises(ToolError, match="^KeyError: 'k'$"):
            await executor.run(Await(fail_later, ("k",), {}))

    run(scenario)


def test_a_worker_that_dies_is_replaced(run) -> None:
    async def scenario(executor: Executor) -> None:
        with pytest.raises(ToolError, match="die: its worker process died"):
            await executor.run(call(die))
        assert value(await executor.run(call(add, 4))) == 4

    run(scenario)


def test_time_limits_and_cancelling_kill_the_worker(run, tmp_path: Path) -> None:
    async def scenario(executor: Executor) -> None:
        pid = value(await executor.run(call(spin, 0.0)))
        with pytest.raises(StepTimeoutError, match=r"ran past 0.5 s"):
            await executor.run(call(spin, 60.0, timeout_s=0.5))
        assert not psutil.pid_exists(pid)
        pid = value(await executor.run(call(spin, 0.0)))
        path = tmp_path / "began"
        spinning = asyncio.create_task(executor.run(call(spin_noted, 60.0, str(path))))
        async with asyncio.timeout(60):
            while not path.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
        assert not spinning.done()
        spinning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spinning
        assert value(await executor.run(call(add, 5))) == 5
        assert not psutil.pid_exists(pid)

    run(scenario)


def test_functions_that_a_worker_cannot_import(run) -> None:
    async def scenario(executor: Executor) -> None:
        for fn in (lambda: 1, Workers.close):
            with pytest.raises(InputError, match="top level"):
                await executor.run(call(fn))

    run(scenario)


def test_async_functions_are_awaited_many_at_once_and_cancelled(run, tmp_path: Path) -> None:
    async def scenario(executor: Executor) -> None:
        jobs = [Await(add_later, (n,), {"b": 1}) for n in range(100)]
        found = await asyncio.gather(*(executor.run(job) for job in jobs))
        assert [value(done) for done in found] == list(range(1, 101))
        path = tmp_path / "slept"
        sleeping = asyncio.create_task(executor.run(Await(sleep_long, (str(path),), {})))
        async with asyncio.timeout(60):
            while not path.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        until_s = time.monotonic() + 60
        while path.read_text() != "ended":
            assert time.monotonic() < until_s
            await asyncio.sleep(0.01)

    run(scenario)


def test_code_search_and_words(run, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    search.build(folder, [Document(id="a", text="cats purr"), Document(id="b", text="dogs bark")])

    async def scenario(executor: Executor) -> None:
        await runs_code(executor)
        hits = value(await executor.run(Search(folder, "who barks?", 1)))
        assert [hit["id"] for hit in hits] == ["b"]
        vectors = value(await executor.run(Words(["cat", "dog", "cat"])))["vectors"]
        assert vectors[0] == vectors[2] != vectors[1]
        with pytest.raises(InputError, match="there is no index 'none'"):
            await executor.run(Search(tmp_path / "none", "q", 1))

    run(scenario)


async def runs_code(executor: Executor) -> None:
    """Hold what an executor does with code against what it should do."""
    done = await executor.run(Code("monty", "x + 1", {"x": 41}, Limits()))
    assert (value(done)["ok"], value(done)["value"]) == (True, 42)
    assert done.cpu_s > 0
    assert done.startup_s > 0
    infinite = await executor.run(Code("monty", "[x, -x]", {"x": math.inf}, Limits()), front=True)
    assert value(infinite)["value"] == [math.inf, -math.inf]
    limits = Limits(time_s=60.0, memory_bytes=32 * 2**20, output_bytes=100)
    for code, kind in (
        ("while True:\n    pass", "timeout"), ("'x' * 10**9", "memory"),
        ("print('x' * 1000)", "output"), ("1 +", "syntax"), ("1 / 0", "exception"),
    ):  # fmt: skip
        given = msgspec.structs.replace(limits, time_s=0.2) if kind == "timeout" else limits
        failed = value(await executor.run(Code("monty", code, {}, given)))
        assert (failed["ok"], failed["error_kind"]) == (False, kind)
    with pytest.raises(InputError, match="did you mean monty"):
        await executor.run(Code("mouty", "1", {}, Limits()))


def test_sandboxes_of_a_machine_that_joined(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.toml", "gateway", code=True)
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(TOOLS_HERE)
    with serving(tmp_path, fleet=fleet, keys=tmp_path / "keys.toml") as served:

        async def scenario() -> None:
            executor = FarSandboxes("node", served.base_url, key, 2)
            try:
                await runs_code(executor)
                seen = value(await executor.run(Code("monty", "6 * 7", {}, Limits())))
                assert seen["value"] == 42, "the worker is unharmed by what was stopped"
            finally:
                await executor.close()

        asyncio.run(scenario())


def test_large_arguments_and_results_come_whole(run) -> None:
    async def scenario(executor: Executor) -> None:
        sizes = (1, 70_000, 3_000_000, 5)
        found = await asyncio.gather(*(executor.run(call(text_of, size)) for size in sizes))
        assert [len(value(done)) for done in found] == list(sizes)
        told = await asyncio.gather(*(executor.run(call(length, text_of(size))) for size in sizes))
        assert [value(done) for done in told] == list(sizes)
        with pytest.raises(ToolError, match="over the limit of 64 MiB"):
            await executor.run(call(text_of, 65 * 2**20))

    run(scenario)


@pytest.fixture
def rays(nodes: Nodes) -> Nodes:
    """The cluster, for what only machines of it have; the suite's executor gives its one back."""
    nodes.released()
    return nodes


def fleet(folder: Path, *pools: str) -> str:
    """Write a fleet file of tools on OFFER, and of other pools."""
    own = f"""[[pool]]
name = "box"
offer = "{OFFER}"
units = 1
serves = ["tool:*", "embed:*"]
price = {{ usd_per_hour = 3.6 }}
"""
    path = folder / "fleet.toml"
    path.write_text("\n".join((own, *pools)))
    return str(path)


def finished(folder: Path, agent: Any, inputs: list[dict[str, Any]], **options: Any) -> RunFolder:
    """Run an agent to the end."""
    folder.mkdir()
    job = AgentJob(agent=Agent(name=agent.__name__, run=agent), given_as="-", inputs=inputs)
    return asyncio.run(Run(folder, [job], RunOptions(**options)).execute())


def test_yielding_of_a_process_that_is_gone_is_passed_over() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    yield_to_engine(gone.pid)
    assert os.nice(0) < TOOL_NICE


def test_the_same_agent_has_the_same_ledger_here_and_on_ray(
    rays: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same steps, parents, outcomes and outputs; each step priced by its pool's core-seconds."""
    monkeypatch.setenv("POLYSILICON_LOCAL_USD_PER_HOUR", "7.2")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    inputs = [{"n": 4}, {"n": 5}]
    with Endpoint(lambda _asked: {"content": "four"}).served() as model:
        pool = f"""[[pool]]
name = "model"
offer = "lab/model"
serves = ["llm:*"]
engine = "openai"
endpoint = "{model.address}"
model = "m"
price = {{ usd_per_hour = 1.0 }}
"""
        on_ray = fleet(tmp_path, pool)
        here = tmp_path / "here.toml"
        text = Path(on_ray).read_text().replace(f'offer = "{OFFER}"', 'offer = "local"')
        here.write_text(text.replace("price = { usd_per_hour = 3.6 }\n", "", 1))
        alone = finished(tmp_path / "alone", everything, inputs, fleet=str(here))
        clustered = finished(
            tmp_path / "clustered", everything, inputs, fleet=on_ray, ray=rays.address
        )
    what = attrgetter(
        "task_id", "step_id", "parent_ids", "agent", "name", "kind", "model", "pool", "outcome"
    )
    ledgers = []
    for folder, offer, usd_per_core_s in ((alone, "local", None), (clustered, OFFER, 0.001)):
        steps = list(folder.workload().steps())
        tools = [step for step in steps if step.kind != "llm"]
        assert {step.offer for step in tools} == {offer}
        assert all(task.ok for task in folder.tasks())
        for step in tools:
            assert step.ready_s <= step.start_s <= step.end_s
            assert step.cost_usd == pytest.approx(step.cpu_s * (usd_per_core_s or step.cost_usd
                                                                / (step.cpu_s or 1)))  # fmt: skip
        assert sum(step.cpu_s > 0 for step in tools) == 2 * (3 + 4)
        ledgers.append((Counter(map(what, steps)), [t.output for t in folder.tasks()]))
    assert ledgers[0] == ledgers[1]
    assert ledgers[0][1][0] == [[0, 2, 4], 6, 600_000, 256, "ValueError: as it should", "four"]
    assert len(list(alone.workload().steps())) == 2 * 11


def test_a_run_goes_on_over_lost_nodes_and_on_those_that_join(rays: Nodes, tmp_path: Path) -> None:
    """Two machines, of which one is killed; a third one joins, and the run with it."""
    doomed = rays.add(OFFER)
    path = tmp_path / "notes"
    path.touch()
    told = fleet(tmp_path)
    text = Path(told).read_text().replace("units = 1", "units = 2")
    Path(told).write_text(text)
    inputs = [{"path": str(path), "seconds": 0.02} for _ in range(6)]

    def lines() -> list[list[str]]:
        return [line.split() for line in path.read_text().splitlines() if line.count(" ") == 2]

    def places() -> list[str]:
        return list(dict.fromkeys(place for _, place, _ in lines()))

    def until(machines: int) -> None:
        end_s = time.monotonic() + 100
        while len(places()) < machines and time.monotonic() < end_s:
            time.sleep(0.05)

    def mishaps() -> None:
        try:
            until(2)
            rays.kill(doomed)
            rays.add(OFFER)
            until(3)
        finally:
            Path(f"{path}.stop").touch()

    breaking = threading.Thread(target=mishaps)
    breaking.start()
    try:
        done = finished(tmp_path / "run", notes, inputs, fleet=told, ray=rays.address)
    finally:
        breaking.join()
    assert len(places()) == 3
    steps = list(done.workload().steps())
    tasks = {task.task_id: task.output for task in done.tasks()}
    wanted = {f"{task}:{number}" for task, count in tasks.items() for number in range(count)}
    assert len(tasks) == 6
    assert len(steps) == len({(s.task_id, s.step_id) for s in steps}) == len(wanted)
    assert all(step.outcome == "ok" for step in steps)
    counts = Counter(label for label, _, _ in lines())
    assert set(counts) == wanted
    # Only what was under way on a lost machine, a step each, may have begun again.
    assert sum(counts.values()) <= len(wanted) + 2
    assert len({(label, key) for label, _, key in lines()}) == len(wanted)  # with the same key


def test_a_gateway_runs_its_tasks_on_nodes_and_over_the_loss_of_one(
    rays: Nodes, tmp_path: Path
) -> None:
    doomed = rays.add(OFFER)
    path = tmp_path / "notes"
    path.touch()
    told = Path(fleet(tmp_path))
    told.write_text(told.read_text().replace("units = 1", "units = 2"))
    agent = f"{Path(__file__).parents[1] / 'executor_jobs.py'}:notes"
    command = [Path(sys.executable).with_name("polysilicon"), "serve", "--port", "0"]
    command += ["--ray", rays.address, "--fleet", told, "--folder", "kept", "--agent", agent]

    def until(what: Callable[[], Any]) -> None:
        end_s = time.monotonic() + 60
        while not what():
            assert time.monotonic() < end_s
            time.sleep(0.02)

    def places() -> list[str]:
        return [line.split()[1] for line in path.read_text().splitlines() if line.count(" ") == 2]

    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        lines = iter(child.stderr)
        try:
            said = next(line for line in lines if "/v1 serves" in line)
            address = re.search(r"http://[\d.:]+", said)[0]
            with httpx.Client(base_url=address, timeout=60) as client:
                body = {"agent": "notes", "input": {"path": str(path), "seconds": 0.02}}
                asked = [client.post("/v1/tasks", json=body) for _ in range(4)]
                assert [answer.status_code for answer in asked] == [202] * 4
                until(lambda: len(set(places())) == 2)
                rays.kill(doomed)
                there = len(places())
                until(lambda: len(places()) > there + 20)
                Path(f"{path}.stop").touch()
                views = [f"/v1/tasks/{answer.json()['id']}" for answer in asked]
                until(lambda: all(client.get(v).json()["status"] == "completed" for v in views))
                tasks = {(view := client.get(v).json())["id"]: view["output"] for v in views}
        finally:
            child.send_signal(signal.SIGTERM)
            list(lines)
    assert child.returncode == 0
    steps = list(RunFolder(tmp_path / "kept").workload().steps())
    wanted = {(task, n) for task, count in tasks.items() for n in range(count)}
    assert len(steps) == len({(s.task_id, s.step_id) for s in steps}) == len(wanted)
    assert {(step.pool, step.offer, step.outcome) for step in steps} == {("box", OFFER, "ok")}
    begun = Counter(line.split()[0] for line in path.read_text().splitlines())
    assert set(begun) == {f"{task}:{number}" for task, number in wanted}
    assert begun.total() <= len(wanted) + 1  # what was under way on the lost machine


@pytest.mark.parametrize("verb", ["run", "serve"])
def test_a_wrong_address_leaves_no_folder_and_is_one_line(
    rays: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inputs.jsonl").write_text("{}\n")
    agent = f"{Path(__file__).parents[1] / 'executor_jobs.py'}:notes"
    given = [agent, "--input", "inputs.jsonl"] if verb == "run" else ["--port", "0"]
    given += ["--fleet", fleet(tmp_path)]
    before = {path.name for path in tmp_path.iterdir()}
    with Endpoint(lambda _asked: {}).served() as other:
        wrong = {"127.0.0.1:1": "refused", urlsplit(other.address).netloc: "is no head node"}
        for address, why in wrong.items():
            with pytest.raises(SystemExit) as ended:
                main([verb, *given, "--ray", address])
            assert ended.value.code == 2
            text = capsys.readouterr().err
            assert text.count("\n") == 1
            assert re.search(f"no Ray cluster answers: .*{why}; start one with `ray start", text)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_what_waits_for_no_machine_fails_over_and_is_bounded(rays: Nodes) -> None:
    from polysilicon.runtime.cluster.cluster import Cluster  # noqa: PLC0415 - an extra
    from polysilicon.runtime.cluster.machines import Machines  # noqa: PLC0415 - an extra

    async def scenario() -> None:
        pool = Pool(name="box", offer=OFFER, serves=("tool:*",), price=OwnPrice(usd_per_hour=1.0))
        cluster = Cluster(rays.address, [pool], 2)
        machines = Machines(cluster, pool)
        with pytest.raises(LostError, match="no machine of pool 'box'") as lost:
            await machines.run(call(add, 1))
        assert (lost.value.down, lost.value.broke, lost.value.unasked) == (True, False, True)
        await machines.opened()
        (member,) = machines.members
        spinning = [asyncio.create_task(machines.run(call(spin, 60.0))) for _ in range(3)]
        until_s = time.monotonic() + 60
        while member.has_room("cpu"):
            assert time.monotonic() < until_s
            await asyncio.sleep(0.01)
        assert member.load("cpu") == 1.0  # the others wait with the driver
        member.lose("a test")
        ended = await asyncio.gather(*spinning, return_exceptions=True)
        assert sum(isinstance(error, LostError) for error in ended) >= 1
        await machines.close()
        cluster.close()

    asyncio.run(scenario())


def test_an_engine_of_a_node_answers_is_metered_and_reached_by_the_gateway(
    rays: Nodes, local_model: Path
) -> None:
    from polysilicon.runtime.cluster.cluster import Cluster  # noqa: PLC0415 - an extra
    from polysilicon.runtime.cluster.opening import open_pool  # noqa: PLC0415 - an extra

    price = OwnPrice(usd_per_hour=3.6)
    served = ("llm:*",)
    pool = Pool(name="b", offer=OFFER, serves=served, model=str(local_model), price=price)
    request = ChatRequest(messages=({"role": "user", "content": "Say hello."},), max_tokens=6)

    async def scenario() -> None:
        cluster = Cluster(rays.address, [pool], 2)
        running = await open_pool(cluster, pool, local_offer(load(), detect()))
        engine, usage, pieces = running.engine, Usage(), []
        told = TOLD.set(usage)
        answer = await engine.chat(request, pieces.append)
        TOLD.reset(told)
        assert "".join(pieces) == answer.text
        assert 0 < answer.output_tokens <= 6
        assert usage.cpu_s > 0
        assert running.price(usage.cpu_s, 9.0)[0] == pytest.approx(0.001 * usage.cpu_s)
        assert running.price(None, 8.0)[0] == pytest.approx(0.001)  # a slot of eight
        body = {"messages": request.messages, "max_tokens": 6, "temperature": 0.0}
        async with engine.forwarder() as forwarder:
            with closing(
                await forwarder.post("chat/completions", msgspec.json.encode(body))
            ) as sent:
                reply = msgspec.json.decode(await sent.whole(2**20))
        assert reply["choices"][0]["message"]["content"] == answer.text
        assert running.gates["engine"].limit == pool.concurrency
        await running.close()
        assert running.gates["engine"].health.drained
        with pytest.raises(LostError):
            await engine.chat(request)
        with pytest.raises(LostError):
            await engine.forwarder().__aenter__()
        cluster.close()

    asyncio.run(scenario())


for _test in (
    test_an_engine_of_a_node_answers_is_metered_and_reached_by_the_gateway,
    test_the_same_agent_has_the_same_ledger_here_and_on_ray,
    test_a_run_goes_on_over_lost_nodes_and_on_those_that_join,
    test_a_gateway_runs_its_tasks_on_nodes_and_over_the_loss_of_one,
    test_a_wrong_address_leaves_no_folder_and_is_one_line,
    test_what_waits_for_no_machine_fails_over_and_is_bounded,
):
    for _mark in RAY_MARKS:
        _mark(_test)
