from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from polysilicon.errors import InputError
from polysilicon.workload.describe import describe
from polysilicon.workload.generate import library
from polysilicon.workload.generate.asked import mixed, parts
from polysilicon.workload.generate.generate import Asked, Mix, in_memory
from polysilicon.workload.generate.shape_checks import check
from polysilicon.workload.workload import Workload

# Means of: steps of a task, share of llm steps, prefix reuse, prompt and output tokens.
KNOWN = {
    "chat": (6.1, 0.58, 0.70, 1900, 209),
    "support": (9.6, 0.44, 0.74, 2860, 154),
    "coding": (127, 0.45, 0.94, 109_000, 488),
    "research": (46, 0.47, 0.63, 11_500, 378),
    "data-preparation": (31, 0.24, 0.24, 5400, 31),
    "post-training": (37, 0.49, 0.89, 3800, 1130),
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_named_shape_is_what_it_says(name):
    shapes, shares = parts(library.load(name).shapes)
    tasks = 400 if name == "coding" else 3000
    mix = Mix(shapes, shares, Asked(rate_per_s=1, span_s=float(tasks), tasks=tasks, seed=2))
    workload = Workload(in_memory(mix))
    said = describe(workload)
    llm = said.kinds["llm"] / said.steps
    found = (said.steps / tasks, llm, said.prefix_reuse, said.prompt_tokens.mean)
    assert (*found, said.output_tokens.mean) == pytest.approx(KNOWN[name], rel=0.2)
    assert mix.steps_per_task == pytest.approx(said.steps / tasks, rel=0.15)
    for column in ("start_s", "end_s", "ready_s"):
        assert np.isnan(workload.numbers(column)).all()


def test_tools_of_coding_agents_are_fast_or_slow():
    shapes, shares = parts(library.load("coding").shapes)
    workload = Workload(in_memory(Mix(shapes, shares, Asked(rate_per_s=1, span_s=500, tasks=500))))
    cpu_s = workload.numbers("cpu_s")
    p50, p90, p99 = np.nanquantile(cpu_s, [0.5, 0.9, 0.99])
    assert (p50, p90, p99) == (
        pytest.approx(0.04, rel=0.5),
        pytest.approx(21, rel=0.25),
        pytest.approx(30, rel=0.25),
    )


def test_all_shapes_are_known_here():
    assert set(library.names()) == set(KNOWN)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_shape_survives_its_file(name, tmp_path):
    library.save(library.load(name), tmp_path / "s.toml")
    assert library.load(str(tmp_path / "s.toml")) == library.load(name)


def test_odd_names_survive_the_file(tmp_path):
    file = library.load("chat")
    odd = msgspec.structs.replace(file.shapes[0], agent='a"b\\c\n\x7f\u2028é')
    library.save(msgspec.structs.replace(file, shapes=(odd,)), tmp_path / "s.toml")
    assert library.load(str(tmp_path / "s.toml")).shapes == (odd,)


def test_a_mix_shares_the_tasks():
    shapes, shares = mixed({"chat": 3, "support": 1})
    assert [shape.agent for shape in shapes] == ["chat", "support"]
    assert shares == [0.75, 0.25]


def test_unknown_shapes_name_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"unknown shape 'suport'; did you mean support"):
        library.load("suport")
    with pytest.raises(InputError, match=r"gone\.toml: cannot read"):
        library.load(str(tmp_path / "gone.toml"))


TOML = Path(__file__).parent.parent.parent / "src/polysilicon/workload/generate/data/chat.toml"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('agent = "chat"', "agent = 3", "Expected `str`, got `int`"),
        ('agent = "chat"', 'agent = "chat', "(at line 5, column 14)"),
        ("next = { person = 1 }", "next = { persn = 1 }", "no 'persn'; did you mean person"),
        ("next = { person = 1 }", "next = { person = -1 }", "weight -1"),
        ("next = { person = 1 }", "", "stage answer, next: is empty"),
        ('{ step = "answer" }', '{ step = "anser" }', "no 'anser'"),
        ('{ step = "answer" }', '{ step = "answer", counts = [0] }', "not all zero"),
        ('{ step = "answer" }', "", "a stage has steps"),
        ("end = [0.28]", "", "stage answer: tasks never end"),
        ("end = [0.28]", "end = [1.28]", "end has chances"),
        ("end = [0.28]", "end = [0.1, 0.2]", "end has chances"),
        ("begin = { answer = 1 }", "begin = {}", "begin: is empty"),
        ("begin = { answer = 1 }", "begin = { answer = 0 }", "all weights are zero"),
        ("median = 60, p99 = 2500", "median = 60", "p99 must be"),
        ("median = 60, p99 = 2500", "value = 1, from_tokens = 5", "rise from 0"),
        ("median = 60, p99 = 2500", "value = 1, fro_tokens = 5", "fro_tokens"),
        ("p99 = 1500", "p99 = 1e308", "wait_s: its values go up to inf, which is above 9.0072e+15"),
        ("p99 = 1500", "p99 = 1e15", "step person, wait_s: its values go up to 2.95622e+27"),
        ("p99 = 1500", "p99 = 1e308, most = 9", "p99 is too far above the median"),
        ("median = 45, p99 = 1500", "median = 1e-308, p99 = 1e308", "its values go up to nan"),
        ("median = 60, p99 = 2500", "p = [0, 1], v = [-1e308, 1e308]", "new_tokens: its values"),
        ("median = 60, p99 = 2500", "value = -1e300", "new_tokens: its values go up to 1e+300"),
        ("context_tokens = 131072", "context_tokens = 99999999999999999999", "from 1 to 1e+12"),
        ("context_tokens = 131072", "context_tokens = -5", "from 1 to 1e+12"),
        ("next = { person = 1 }", "next = { person = 1e308, answer = 1e308 }", "not finite"),
        ('{ step = "answer" }', '{ step = "answer", counts = [1e308, 1e308] }', "finite weights"),
        ("begin = {", "ends_at = [1, 99999999999999999999]\nbegin = {", "to 9.0072e+15 at most"),
        ("dispersion = 1.5", "dispersion = 0.5", "at least 1"),
        ("dispersion = 1.5", "rate_per_s = 0", "rate_per_s must be above 0"),
        ("day = [0.35,", "day = [", "day has 24 values"),
        ("memory = { output_tokens", "memory = { output_token", "did you mean output_tokens"),
        ("{ output_tokens = 0.2 }", "{ output_tokens = 1.2 }", "1.2 of output_tokens"),
        ("r = 0.2", "r = 2", "r is 2"),
        ('id = "person"\nname', 'id = "answer"\nname', "step 'answer' is there twice"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(old, new, what, tmp_path):
    text = TOML.read_text("utf-8")
    assert old in text
    path = tmp_path / "broken.toml"
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(InputError, match=r"broken\.toml") as error:
        library.load(str(path))
    assert what in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_shapes_is_refused():
    with pytest.raises(InputError, match="no shapes"):
        check(msgspec.structs.replace(library.load("chat"), shapes=()), "x")
