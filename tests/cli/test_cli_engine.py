from __future__ import annotations

import json

import pytest

from polysilicon.catalog.machine import detect
from polysilicon.catalog.measurements import read_measurements
from polysilicon.cli import main
from polysilicon.cost.engine_choice import EngineChoice, choices_path, cpu_key, read_choices
from polysilicon.errors import PolysiliconError
from polysilicon.runtime.engines.native import bench, build, child, search
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


@pytest.fixture
def timed(monkeypatch):
    """Speeds that are known, and a machine of 20 GB/s without kernels built here."""
    speed = Speed(
        prompts=(Prompt(words=9, tokens=20, seconds=0.1),),
        batches=(
            Batch(sequences=1, context_tokens=30.0, seconds=1e-4),
            Batch(sequences=8, context_tokens=30.0, seconds=4e-4),
        ),
    )
    monkeypatch.setattr(
        child, "run", lambda job, *_: 1000 if isinstance(job, child.Count) else speed
    )
    monkeypatch.setattr(bench, "ARRAY_BYTES", 2**20)
    return speed


def test_bench_is_rows_a_page_and_json(model, timed, tmp_path, capsys):
    rows, page = tmp_path / "rows.csv", tmp_path / "page.html"
    arguments = ["--model", str(model), "-o", str(rows), "--html", str(page), "--json"]
    assert run("bench", "engine", *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    one, eight = (row for row in told["rows"] if row["what"] == "decode")
    assert one["tokens_per_s"] == pytest.approx(1e4)
    most = told["ceilings"]["bandwidth_gbs"] * 1e9 / model.stat().st_size
    assert one["of_ceiling"] == pytest.approx(1e4 / most)
    assert eight["of_ceiling"] is None  # eight sequences read the weights together
    assert eight["tokens_per_s"] == pytest.approx(2e4)
    written = read_measurements(rows)
    assert [row.concurrency for row in written] == [1.0, 1.0, 8.0]
    assert written[0].prefill_tokens_per_s == pytest.approx(200)
    assert written[2].tpot_ms == pytest.approx(0.4)
    html = page.read_text()
    assert "<svg" in html
    assert "tiny" in html
    assert "http-equiv" in html


def test_bench_for_a_person(model, timed, capsys):
    assert run("bench", "engine", "--model", str(model)) == 0
    shown = capsys.readouterr().out
    assert "of the ceiling" in shown
    assert "GB/s of memory" in shown
