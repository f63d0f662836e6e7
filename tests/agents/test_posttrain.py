"""The loop and its problems; the model and the training are scripted, the sandbox is real."""

from __future__ import annotations

import asyncio
import json
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polysilicon.agents.coder import program
from polysilicon.agents.posttrain import AGENT, agent, curves, problems, step
from polysilicon.agents.posttrain.step import Example
from polysilicon.errors import InputError
from polysilicon.runtime.sandboxes import open_sandbox
from polysilicon.runtime.types import ChatResult, CodeResult, Limits
from polysilicon.workload.record import RunInfo, StepRecord, TaskRecord
from polysilicon.workload.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


def test_no_sentence_that_is_evaluated_is_trained_on() -> None:
    def sentences(*, held_back: bool) -> set[str]:
        drawn = problems.draw(random.Random(1), 2000, held_back=held_back)
        return {re.sub(r"\d+", "k", problem.prompt) for problem in drawn}

    kept, held_back = sentences(held_back=False), sentences(held_back=True)
    assert not kept & held_back
    assert len(held_back) == pytest.approx(len(kept) / 2, rel=0.05)
    assert {"xs", "n", "words", "s"} == {re.search(r"\((\w+)\)", p)[1] for p in held_back}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("lists: the sum of the squares of the even numbers",
         "sum(x * x for x in xs if x % 2 == 0)", "sum(x * x for x in xs if x % 2)"),
        ("words: the sorted list of the reversals of the words that contain 'e'",
         "sorted(w[::-1] for w in words if 'e' in w)", "[w[::-1] for w in words if 'e' in w]"),
        ("ranges: the number of distinct values among the odd numbers",
         "(n + 1) // 2", "n // 2"),
        ("strings: the string, in reverse order, of the upper-case forms of the vowels",
         "''.join(c.upper() for c in s if c in 'aeiou')[::-1]", "s.upper()[::-1]"),
    ],
)  # fmt: skip
def test_the_tests_tell_right_from_wrong(name: str, right: str, wrong: str) -> None:
    rng = random.Random(2)
    every = [
        *problems.draw(rng, 2000, held_back=False),
        *problems.draw(rng, 2000, held_back=True),
    ]
    problem = next(problem for problem in every if problem.name == name)

    def passes(expression: str) -> bool:
        code = f"{problem.prompt}    return {expression}\n"
        space: dict[str, Any] = {}
        try:
            exec(program.test_program(code, problem.test, "solve", "end"), space)
        except AssertionError:
            return False
        return True

    assert passes(right)
    assert not passes(wrong)


def test_hardly_an_answer_to_another_composition_passes() -> None:
    rng = random.Random(3)
    every = [*problems._compositions(held_back=False), *problems._compositions(held_back=True)]
    passed = differing = 0
    for one, other in ((rng.choice(every), rng.choice(every)) for _ in range(4000)):
        if one.family != other.family or one == other:
            continue
        draw, k = problems.FAMILIES[one.family].draw, rng.randrange(2, 8)
        many = [draw(rng) for _ in range(100)]
        alike = [problems._right(one, k, x) == problems._right(other, k, x) for x in many]
        if not all(alike):
            differing += 1
            passed += all(alike[: problems._TESTS])
    assert differing > 500
    assert passed < 0.02 * differing


class Scripted:
    """A context whose model answers rightly as often as its adapter is old, and which notes all."""

    task_id = "posttrain-00000"

    def __init__(self, folder: Path, right: dict[str, str], log: list[tuple[Any, ...]]) -> None:
        self.folder, self.right, self.log = folder, right, log
        self.rng = random.Random(1)
        self.box: Any = None
        self.lessons: list[dict[str, Any]] = []

    async def chat(self, messages: list[dict[str, str]], **options: Any) -> ChatResult:
        version = 0 if options["adapter"] is None else int(options["adapter"])
        self.log.append((options["name"], version, options["seed"]))
        knows = version * 3 + 1
        prompt = messages[-1]["content"]
        good = self.right.get(prompt) if sum(map(ord, prompt)) % 10 < knows else None
        return ChatResult(text=f" {good or 'None'}", output_tokens=3)

    async def run_code(self, code: str, *, name: str, limits: Limits) -> CodeResult:
        result: CodeResult = await self.box.run(code, {}, limits)
        return result

    async def train(self, _fn: Any, *args: Any, **_options: Any) -> dict[str, Any]:
        _model, lesson, _recipe = args
        number = lesson["number"]
        self.lessons.append(lesson)
        self.log.append(
            ("train begins", number, [example["answer"] for example in lesson["examples"]])
        )
        await asyncio.sleep(0)
        self.log.append(("train ends", number))
        return {"adapter": str(number), "tokens": 10, "loss": 1.0, "last_loss": 0.5, "steps": 1}

    async def map(self, fn: Any, items: Any, **_options: Any) -> list[Any]:
        return list(await asyncio.gather(*(fn(self, item) for item in items)))


def play(folder: Path, **fields: Any) -> tuple[dict[str, Any], Scripted]:
    task = {"iterations": 3, "problems": 8, "samples": 2, "held_back": 6, **fields}

    async def main() -> tuple[dict[str, Any], Scripted]:
        ctx = Scripted(folder, Answers(), [])
        ctx.box = open_sandbox("monty", 2)
        try:
            return await AGENT.run(ctx, task), ctx  # type: ignore[arg-type]
        finally:
            await ctx.box.close()

    return asyncio.run(main())


class Answers(dict[str, str]):
    """Right answers to all problems, written as a loop over what their sentences say."""

    def get(self, prompt: str, default: Any = None) -> Any:
        takes = {"even": "x % 2 == 0", "odd": "x % 2 == 1", "all the numbers": "True"}
        if "sum of" not in prompt or "xs" not in prompt or "number of" in prompt:
            return default
        changes = {"squares": "x * x", "doubles": "2 * x", "cubes": "x ** 3"}
        taken = next((code for words, code in takes.items() if words in prompt), None)
        changed = next((code for words, code in changes.items() if words in prompt), "x")
        return default if taken is None else f"sum({changed} for x in xs if {taken})"


@pytest.fixture
def sums_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw problems whose answers are scripted, and train without the extra."""
    real = problems.draw
    names = "lists: the sum of the (squares|doubles|cubes) of (the even|the odd|all the) numbers"

    def sums(rng: random.Random, count: int, *, held_back: bool) -> list[problems.Problem]:
        drawn = real(rng, 3000, held_back=held_back)
        return [problem for problem in drawn if re.fullmatch(names, problem.name)][:count]

    monkeypatch.setattr(problems, "draw", sums)
    monkeypatch.setattr(agent, "check_extra", lambda: None)


@pytest.mark.usefixtures("sums_only")
@pytest.mark.parametrize("overlap", [True, False])
def test_the_adapter_that_samples_is_as_stale_as_is_said(tmp_path: Path, overlap: bool) -> None:
    output, ctx = play(tmp_path, overlap=overlap)
    log = ctx.log
    sampled: dict[int, set[int]] = {}
    for _, version, seed in (entry for entry in log if entry[0] == "answer"):
        sampled.setdefault(seed // 1000 % 1000, set()).add(version)
    expected = {1: {0}, 2: {0}, 3: {1}} if overlap else {1: {0}, 2: {1}, 3: {2}}
    assert sampled == expected
    assert output["staleness"] == int(overlap)
    evaluated = [version for name, version, *_ in log if name == "evaluate"]
    assert evaluated == sorted(evaluated)
    assert set(evaluated) == {0, 1, 2, 3}
    trained = [entry for entry in log if entry[0] == "train begins"]
    # Training waits for no evaluation of the adapter before.
    begins = [log.index(entry) for entry in trained]
    evaluations = [
        next(place for place, entry in enumerate(log) if entry[:2] == ("evaluate", version))
        for version in range(3)
    ]
    pairs = zip(begins, evaluations, strict=True)
    assert [begin < evaluation for begin, evaluation in pairs] == [overlap] * 3
    assert all(answer.startswith(" sum(") for _, _, answers in trained for answer in answers)
    assert output["adapter"] == str(tmp_path / "3")
    assert [row["iteration"] for row in output["curve"]] == [0, 1, 2, 3]
    assert output["after"] == output["curve"][-1]["pass_rate"]
    assert AGENT.grade is not None
    gain = output["after"] - output["before"]
    assert AGENT.grade({"expected": {"gain": gain}}, output) == 1.0
    assert AGENT.grade({"expected": {"gain": gain + 0.01}}, output) == 0.0
    assert AGENT.grade({}, output) is None


@pytest.mark.usefixtures("sums_only")
def test_no_step_is_named_by_where_the_run_is(tmp_path: Path) -> None:
    _, ctx = play(tmp_path / "runs" / "X", iterations=2)
    assert {lesson["checkpoints"] for lesson in ctx.lessons} == {"checkpoints/posttrain-00000"}
    assert str(tmp_path) not in str(ctx.lessons)


@pytest.mark.usefixtures("sums_only")
@pytest.mark.parametrize("overlap", [True, False])
def test_groups_that_tell_something_are_compared_with_who_sampled_them(
    tmp_path: Path, overlap: bool
) -> None:
    output, ctx = play(tmp_path, overlap=overlap, samples=4, recipe={"method": "grpo"})
    assert output["method"] == "grpo"
    by = [lesson["sampled_by"] for lesson in ctx.lessons]
    assert by == ([0, 0, 1] if overlap else [0, 1, 2])
    assert {lesson["temperature"] for lesson in ctx.lessons} == {0.8}
    # The scripted model answers all samples of a problem alike, so that none tells anything.
    assert all(lesson["examples"] == [] for lesson in ctx.lessons)

    def example(prompt: str, reward: float) -> Example:
        return Example(messages=[{"role": "user", "content": prompt}], answer="1", reward=reward)

    groups = [[example(p, float(r)) for r in rewards] for p, rewards in
              (("a", (0, 0)), ("b", (0, 1)), ("c", (1, 1)), ("d", (1, 0)))]  # fmt: skip
    batch = agent.Batch(answers=groups, tokens=0, sampled_by=0)
    assert agent._compared(batch) == groups[1] + groups[3]
    assert batch.reward() == 0.5


def test_without_the_extra_nothing_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "find_spec", lambda name: None)
    log: list[tuple[Any, ...]] = []
    with pytest.raises(InputError, match=r"needs torch and gguf; install polysilicon\[train\]"):
        asyncio.run(AGENT.run(Scripted(tmp_path, {}, log), {}))  # type: ignore[arg-type]
    assert log == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"seeds": 1}, "seeds"),
        ({"problems": 0}, "problems"),
        ({"recipe": {"rank": 10**9}}, "rank"),
        ({"model": "https://somewhere/model.gguf"}, "is a URL"),
        ({"adapter": "a.gguf"}, "only evaluated"),
        ({"recipe": {"precision": "int4"}}, "precision"),
        ({"recipe": {"method": "ppo"}}, "method"),
        ({"recipe": {"method": "grpo"}, "samples": 1}, "grpo compares"),
        ({"recipe": {"method": "grpo"}, "temperature": 0}, "grpo compares"),
    ],
)
def test_a_wrong_input_is_told(tmp_path: Path, value: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        asyncio.run(AGENT.run(Scripted(tmp_path, {}, []), value))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        AGENT.accept(value)


@pytest.mark.parametrize(
    ("flags", "asked", "expected"),
    [
        ({"avx512f", "avx512_bf16"}, None, "bfloat16"),
        ({"bf16"}, None, "bfloat16"),
        ({"avx2"}, None, "float32"),
        ({"avx2"}, "bfloat16", "bfloat16"),
        ({"amx_bf16"}, "float32", "float32"),
    ],
)
def test_bfloat16_is_chosen_where_the_cpu_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], asked: Any, expected: str
) -> None:
    own = msgspec.structs.replace(step.detect(), isa_flags=frozenset(flags))
    monkeypatch.setattr(step, "detect", lambda: own)
    recipe = msgspec.convert({} if asked is None else {"precision": asked}, step.Recipe)
    assert recipe.chosen() == expected


def test_the_inputs_for_grpo_differ_in_their_seeds_alone() -> None:
    lines = (ROOT / "examples" / "posttrain_grpo.jsonl").read_text().splitlines()
    accepted = [AGENT.accept(json.loads(line)) for line in lines]
    assert [value.pop("seed") for value in accepted] == [1, 2, 3]
    assert accepted[0] == accepted[1] == accepted[2]
    assert accepted[0]["recipe"]["method"] == "grpo"


def test_a_run_goes_on_alike_from_another_folder(tmp_path: Path, monkeypatch) -> None:
    """What names a step is the input, in which paths are whole from the beginning."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    accepted = AGENT.accept({"adapter": "7", "iterations": 0, "held_back": 2})
    assert accepted == {"adapter": str(first / "7"), "iterations": 0, "held_back": 2}
    asked: list[str] = []

    class Noting(Scripted):
        async def chat(self, messages: list[dict[str, str]], **options: Any) -> ChatResult:
            asked.append(options["adapter"])
            return ChatResult(text=" None")

        async def run_code(self, *_: Any, **__: Any) -> CodeResult:
            return CodeResult(ok=False)

    for folder in (first, second):
        monkeypatch.chdir(folder)
        output = asyncio.run(AGENT.run(Noting(tmp_path, {}, []), accepted))  # type: ignore[arg-type]
        assert output["adapter"] == str(first / "7")
        # One that was not accepted so is looked for from the agent's folder, wherever that is.
        asyncio.run(AGENT.run(Noting(tmp_path, {}, []), accepted | {"adapter": "7"}))  # type: ignore[arg-type]
    assert asked == [*[str(first / "7")] * 2, "7", "7"] * 2
    assert AGENT.accept(accepted) == accepted


def test_curves_count_what_had_ended_and_say_how_sure_the_gain_is(tmp_path: Path) -> None:
    outcomes = [[False, True]] * 5 + [[True, True]] * 3 + [[True, False]] * 2
    gain, low, high = curves.paired_gain(outcomes)
    assert gain == pytest.approx(0.3)
    # Ten differences, five of +1 and two of -1: variance (7 - 10 * 0.09) / 9.
    assert high - low == pytest.approx(2 * 1.96 * ((7 - 0.9) / 9 / 10) ** 0.5)
    tasks, steps = [], []
    for seed in (1, 2):
        task_id = f"posttrain-{seed:05d}"
        rows = [
            {"iteration": 0, "pass_rate": 0.5},
            {"iteration": 1, "pass_rate": 0.7 + 0.1 * seed, "reward": 0.2, "kept": 4,
             "loss": 1.0, "last_loss": 0.5, "sampled_tokens": 9, "trained_tokens": 8},
        ]  # fmt: skip
        wins = [[False, True]] * (2 + seed) + [[True, True]] * 5 + [[False, False]] * (3 - seed)
        output = {"seed": seed, "curve": rows, "adapter": "a", "before": 0.5, "after": 0.8,
                  "outcomes": wins, "staleness": 1}  # fmt: skip
        tasks.append(TaskRecord(task_id=task_id, agent="posttrain", input={}, output=output,
                                ok=True, arrival_s=100.0, start_s=100.0, end_s=200.0))  # fmt: skip
        common = {"task_id": task_id, "agent": "posttrain", "model": "m", "outcome": "ok"}
        steps += [
            StepRecord(step_id=f"e{number}", name="evaluate", kind="llm", end_s=101.0 + number,
                       cpu_s=1.0, cost_usd=0.01, **common)
            for number in range(20)
        ]  # fmt: skip
        steps += [
            StepRecord(step_id="t", name="lora", kind="train", end_s=110.5, cpu_s=30.0,
                       cost_usd=0.3, **common)
        ]  # fmt: skip
    folder = RunFolder(tmp_path)
    folder.write_info(RunInfo(run="r", version="0", started_at="", agents={}, model="m"))
    folder.write_tasks(tasks)
    folder.write_steps(steps)
    found = curves.curves_of(folder)
    assert [(p.core_s, p.end_s) for p in found.seeds[0].points] == [(10.0, 10.0), (50.0, 20.0)]
    assert found.seeds[0].points[1].usd == pytest.approx(0.5)
    # Two seeds that gain 0.3 and 0.4: Student's t with one degree of freedom is 12.706.
    assert found.gain == pytest.approx(0.35)
    assert found.high - found.gain == pytest.approx(12.706 * 0.05, rel=1e-3)
    rows = curves.markdown(found).splitlines()
    assert rows[2] == (
        "| 1 | 50.0 → 80.0 % | +30.0 points (+0.1 to +59.9, 95 % interval) "
        "| 20 s | 0.0139 | $0.50000 |"
    )
    assert rows[-1].startswith("| all |  | mean +35.0 points (-28.5 to +98.5")
    page = curves.html(found)
    assert page.count("<svg") == 2
    assert "+35.0 points" in page
