from __future__ import annotations

import json
from pathlib import Path

import pytest

from polysilicon.catalog.machine import detect
from polysilicon.catalog.measurements import read_measurements
from polysilicon.cli import main
from polysilicon.cost.engine_choice import EngineChoice, choices_path, cpu_key, read_choices
from polysilicon.errors import EngineError, PolysiliconError
from polysilicon.runtime.engines.native import bench, build, ceilings, child, search
from polysilicon.runtime.engines.native.speed import Batch, Prompt, Speed


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A home of its own, and a file that passes for a model."""
    monkeypatch.setenv("POLYSILICON_HOME", str(tmp_path / "home"))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(10**6))
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    return int(caught.value.code or 0)


def found(**changes) -> EngineChoice:
    told = {
        "engine_version": "1",
        "cpu": cpu_key(detect()),
        "source_bytes": 5,
        "threads": 2,
        "gains": {"8 at once": 2.5},
        "refused": {"Q4_0": "perplexity rises by 17.1%, allowed is 2%"},
    }
    return EngineChoice(**{**told, **changes})


@pytest.fixture
def searched(monkeypatch):
    monkeypatch.setattr(search.Search, "run", lambda _self: found(kernels="/k/libggml-cpu.so"))


@pytest.fixture
def builds(monkeypatch):
    def make(_machine, _model, progress):
        progress("compiling with gcc", 1, 2)
        return build.Built(path="/k/libggml-cpu.so", sha256="0" * 64, compiler="gcc", seconds=40.0)

    monkeypatch.setattr(build, "build", make)


def test_build_as_json(model, searched, builds, capsys):
    assert run("engine", "build", "--model", str(model), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["built"]["compiler"] == "gcc"
    assert told["kernels"] == "/k/libggml-cpu.so"
    assert told["gains"] == {"8 at once": 2.5}
    assert "Q4_0" in told["refused"]
    assert set(read_choices(choices_path()).models) == {"tiny"}


def test_build_for_a_person(model, searched, builds, capsys):
    assert run("engine", "build", "--model", str(model)) == 0
    shown = capsys.readouterr().out
    assert "8 at once: 2.50 times the wheel's rate" in shown
    assert "not taken: Q4_0: perplexity rises by 17.1%" in shown


def test_a_build_that_fails_is_one_line_and_the_wheel_stays(model, monkeypatch, capsys):
    def fails(*_):
        raise PolysiliconError("bad.c does not compile with gcc: error: no")

    monkeypatch.setattr(build, "build", fails)
    assert run("engine", "build", "--model", str(model)) == 1
    shown = capsys.readouterr().err
    assert shown.strip().splitlines()[-1].startswith("error: bad.c does not compile")
    assert not choices_path().exists()


class Timed:
    """Answers what `bench engine` asks child processes; a machine without kernels built here.

    Attributes:
        slow: number of sequences that take too long.
        asked: cells that were timed.
    """

    slow = -1
    asked = 0

    def run(self, job, *_):
        if isinstance(job, child.Count):
            return 1000
        if isinstance(job, child.Make):
            return Path(job.target).write_bytes(b"GGUF" + bytes(10**6))
        self.asked += 1
        if self.slow in job.extent.sequences:
            raise EngineError("took over 100 s")
        return Speed(
            prompts=tuple(Prompt(words=w, tokens=20, seconds=0.1) for w in job.extent.prompt_words),
            batches=tuple(
                Batch(
                    sequences=n,
                    context_tokens=30.0,
                    seconds=1e-4 if n == 1 else 4e-4,
                    prompt_tokens_per_s=200.0,
                )
                for n in job.extent.sequences
            ),
        )


@pytest.fixture
def timed(monkeypatch):
    """Speeds that are known."""
    world = Timed()
    monkeypatch.setattr(child, "run", world.run)
    monkeypatch.setattr(ceilings, "ARRAY_BYTES", 2**20)
    return world


def test_bench_is_rows_a_page_and_json(model, timed, tmp_path, capsys):
    rows, page = tmp_path / "rows.csv", tmp_path / "page.html"
    arguments = ["--model", str(model), "-o", str(rows), "--html", str(page), "--json"]
    assert run("bench", "engine", *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    one, eight, _ = (row for row in told["rows"] if row["cell"].endswith("after 8 words"))
    assert one["tokens_per_s"] == pytest.approx(1e4)
    most = told["ceilings"]["read_gbs"] * 1e9 / model.stat().st_size
    reads = told["ceilings"]["reads"]
    assert len(reads) == 3  # before, and after each decoding of one sequence
    assert told["ceilings"]["read_gbs"] == sorted(reads)[1]
    assert one["of_ceiling"] == pytest.approx(1e4 / most)
    assert eight["of_ceiling"] is None  # eight sequences read the weights together
    assert eight["tokens_per_s"] == pytest.approx(2e4)
    written = read_measurements(rows)
    assert [row.concurrency for row in written] == [1.0] * 3 + [1.0, 8.0, 32.0] * 2
    assert written[0].prefill_tokens_per_s == pytest.approx(200)
    assert written[4].tpot_ms == pytest.approx(0.4)
    html = page.read_text()
    assert "<svg" in html
    assert "tiny" in html
    assert "http-equiv" in html


def test_bench_for_a_person(model, timed, capsys):
    assert run("bench", "engine", "--model", str(model)) == 0
    shown = capsys.readouterr().out
    assert "of the ceiling" in shown
    assert "GB/s of reading as many bytes as the weights have" in shown


def test_bench_of_a_shape_is_of_random_weights_that_are_removed(model, timed, tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    arguments = ["bench", "engine", "--model", str(model), "--shape", "1b", "-o", str(rows)]
    assert run(*arguments, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], len(told["rows"])) == ("random-1b", 2)
    assert len(read_measurements(rows)) == 2
    assert list((tmp_path / "home").rglob("*random*")) == []
    assert run("bench", "engine", "--model", str(model), "--shape", "9b") == 2
    assert "there is no shape '9b'; give one of 1b" in " ".join(capsys.readouterr().err.split())


def test_what_takes_too_long_is_told_and_gone_on_with(model, timed, tmp_path, capsys):
    """A file that lacks a row keeps the others; a whole one is measured anew."""
    rows = tmp_path / "rows.csv"
    arguments = ["bench", "engine", "--model", str(model), "-o", str(rows), "--json"]
    timed.slow = 32
    assert run(*arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["refused"].values()) == {"took over 100 s"}
    assert {f"{bench.WHEEL}, 32 at once after {words} words" for words in (8, 200)} == set(
        told["refused"]
    )
    assert (timed.asked, len(read_measurements(rows))) == (9, 7)
    timed.slow = -1
    assert run(*arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["refused"] == {}
    assert {r["cell"]: r["tokens_per_s"] for r in told["rows"]}.items() <= {
        r["cell"]: r["tokens_per_s"] for r in again["rows"]
    }.items()
    assert (timed.asked, len(read_measurements(rows))) == (11, 9)
    assert run(*arguments) == 0
    assert timed.asked == 20


def test_when_all_time_is_over_the_rest_is_left_out(model, timed, monkeypatch, capsys):
    monkeypatch.setattr(bench, "BUDGET_S", -1.0)
    assert run("bench", "engine", "--model", str(model)) == 1
    assert "left out" in capsys.readouterr().err
    assert timed.asked == 0
