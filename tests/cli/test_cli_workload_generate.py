from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from polysilicon.cli import main
from polysilicon.workload.files import read, write
from polysilicon.workload.generate import library
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

KEYS = {"tasks", "steps", "seconds", "steps_per_s", "arrival_rate_per_s", "fit"}


def exit_code(*args: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["workload", "generate", *map(str, args)])
    return int(stop.value.code or 0)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "w.parquet"


def test_a_mix_is_written_and_told(output, capsys):
    shape = ("--shape", "support:0.7", "--shape", "chat:0.3")
    span = ("--rate", 2, "--duration", "10m", "--start", "tue 14:30")
    assert exit_code(*shape, *span, "-o", output, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    workload = read(output)
    assert set(told) >= KEYS
    assert told["fit"] == []
    assert told["steps"] == len(workload)
    assert told["tasks"] == len(workload.codes("task_id")[1]) == pytest.approx(1200, abs=300)
    assert told["arrival_rate_per_s"] == pytest.approx(told["tasks"] / 600)
    assert set(workload.codes("agent")[1]) == {"support", "chat"}
    assert workload.numbers("arrival_s").max() < 600


def test_texts_on_the_disk_are_plain(output):
    assert exit_code("--tasks", 50, "-o", output) == 0
    types = {f.name: str(f.type) for f in pq.ParquetFile(output).schema_arrow}
    assert types["task_id"] == types["kind"] == "string"
    assert types["parent_ids"].startswith("list<")


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / f"{n}.parquet" for n in range(3)]
    for path, seed in zip(paths, (7, 7, 8), strict=True):
        assert exit_code("--shape", "research", "--tasks", 40, "--seed", seed, "-o", path) == 0
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second
    assert first != third


def test_rhythm_bursts_and_growth_can_be_asked_for(output):
    asked = ("--peak-to-mean", 2, "--weekend", 0, "--burstiness", 3, "--growth", 0.5)
    span = ("--rate", 0.02, "--duration", "4w")
    assert exit_code("--shape", "chat", *asked, *span, "-o", output) == 0
    steps = read(output)
    arrival = np.unique(steps.numbers("arrival_s"))
    day = (arrival // 86_400).astype(int)
    assert set(day % 7) == {0, 1, 2, 3, 4}
    hours = np.bincount((arrival % 86_400 // 3600).astype(int), minlength=24)
    assert hours.max() / hours.mean() == pytest.approx(2, rel=0.15)
    weeks = np.bincount(day // 7, minlength=4)
    assert weeks[3] / weeks[0] == pytest.approx(1.5 ** (21 / 30.44), rel=0.15)
    minutes = np.bincount((arrival // 60).astype(int))
    assert minutes.max() >= 8  # 1.2 on average


def test_regions_are_drawn(tmp_path):
    path = tmp_path / "w.jsonl"
    labels = ("--region", "eu:3", "--region", "us", "--data-class", "personal")
    assert exit_code("--tasks", 200, *labels, "-o", path) == 0
    workload = read(path)
    assert set(workload.codes("region")[1]) == {"eu", "us"}
    assert workload.codes("data_class")[1] == ["personal"]


def test_a_trace_is_fitted_kept_and_played_again(tmp_path, output, capsys):
    trace, shape = tmp_path / "trace.parquet", tmp_path / "s.toml"
    assert exit_code("--shape", "support", "--tasks", 600, "--rate", 2, "-o", trace) == 0
    capsys.readouterr()
    assert exit_code("--like", trace, "--save-shape", shape, "-o", output, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["column"]: row for row in told["fit"]}
    assert rows["output_tokens"]["ks"] < 0.06
    assert set(rows["output_tokens"]) >= {
        "ks_critical",
        "ks_critical_tasks",
        "acf",
        "acf_generated",
    }
    assert len(rows["output_tokens"]["acf"]) == 5
    assert told["correlations"]
    assert told["arrival_rate_per_s"] == pytest.approx(2, rel=0.4)
    assert [s.agent for s in library.load(str(shape)).shapes] == ["support"]
    assert exit_code("--shape", shape, "-o", tmp_path / "again.parquet") == 0
    assert (tmp_path / "again.parquet").read_bytes() == output.read_bytes()
    assert exit_code("--like", trace, "--tasks", 30, "-o", output) == 0
    page = capsys.readouterr().out
    assert "A sample of 600 tasks against the source" in page
    assert "rank correlation" in page


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("--rate", "0"), "--rate: must be above 0"),
        (("--rate", "-1"), "--rate: must be above 0"),
        (("--rate", "nan"), "--rate: must be above 0"),
        (("--duration", "0h"), "--duration: '0h' is not between"),
        (("--duration", "soon"), "--duration: 'soon' is no duration; write 90s"),
        (("--tasks", "0"), "--tasks: 0 is not above 0"),
        (("--tasks", "99999999999"), "is not between 0 and 100 years"),
        (("--shape", "suport"), "unknown shape 'suport'; did you mean support"),
        (("--shape", "support:x"), "--shape: 'x' is no weight"),
        (("--shape", "support:0"), "no weight above 0"),
        (("--shape", "chat", "--shape", "chat:2"), "'chat' is there twice"),
        (("--start", "someday"), "--start: 'someday' is no time of the week"),
        (("--start", "mon 25:00"), "--start"),
        (("--peak-to-mean", "0.5"), "--peak-to-mean: must be at least 1"),
        (("--peak-to-mean", "24"), "--peak-to-mean: must be at least 1 and below"),
        (("--weekend", "-1"), "--weekend"),
        (("--burstiness", "0.5"), "--burstiness: must be between 1 and 1e6"),
        (("--growth", "-1"), "--growth: must be between"),
        (("--region", "eu:-1"), "--region"),
        (("--like", "x.parquet", "--shape", "chat"), "--shape and --like were both given"),
        (("--weekend", "0", "--start", "sat", "--duration", "1d"), "the rate is 0 throughout"),
        (("--like", "gone.parquet"), "gone.parquet: no such file"),
        (("--save-shape", "s.toml"), "--save-shape is of --like"),
    ],
)
def test_mistakes_are_one_line(args, what, output, capsys):
    assert exit_code(*args, "-o", output) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert what in line
    assert list(output.parent.iterdir()) == []


def test_a_trace_without_arrivals_needs_a_rate(tmp_path, output, capsys):
    records = [
        StepRecord(task_id=f"t{t}", step_id="a", name="chat", kind="llm", output_tokens=t % 7)
        for t in range(40)
    ]
    trace = tmp_path / "trace.parquet"
    write(Workload.from_records(records), trace)
    assert exit_code("--like", trace, "-o", output) == 2
    assert "give --rate, in tasks a second" in capsys.readouterr().err
    assert exit_code("--like", trace, "--rate", 4, "-o", output, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["span_s"] == 10
    assert told["tasks"] == pytest.approx(40, abs=25)
    assert "Poisson process" in told["notes"][0]


def test_too_small_a_trace_says_what_is_needed(tmp_path, output, capsys):
    trace = tmp_path / "trace.jsonl"
    assert exit_code("--tasks", 5, "-o", trace) == 0
    assert exit_code("--like", trace, "-o", output) == 2
    assert "5 tasks are too few to fit; 20 are needed" in capsys.readouterr().err
    assert not output.exists()


def test_a_workload_larger_than_the_disk_is_refused(output, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    assert exit_code("--rate", 1000, "--duration", "1y", "-o", output) == 2
    error = capsys.readouterr().err
    assert "and the disk has 1 MB free" in error
    assert "steps would take" in error
    assert exit_code("--tasks", 100, "-o", output) == 0


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert exit_code("--tasks", 5, "-o", tmp_path / "gone" / "w.parquet") == 1
    assert "gone/w.parquet: cannot be written" in capsys.readouterr().err
    assert exit_code("--tasks", 5, "-o", tmp_path / "w.csv") == 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_nothing(tmp_path, number, status):
    code = "from polysilicon.cli import main; main()"
    args = ["workload", "generate", "--rate", "1000", "--duration", "10h", "-o", "w.parquet"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    soon_s = time.monotonic() + 60
    while time.monotonic() < soon_s:
        if any(path.stat().st_size > 10**6 for path in tmp_path.iterdir()):
            break
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert error.decode().splitlines()[-1] == "interrupted"
    assert list(tmp_path.iterdir()) == []
