from __future__ import annotations

import json
import shlex

import pytest

from polysilicon.cli import main
from polysilicon.cli.estimate import command

LLM = ["--model", "smollm2-135m-instruct", "--prompt", "300", "--output", "40"]
KEYS = {"offer", "service_s", "ttft_s", "tpot_s", "usd", "joules", "basis", "low_s", "high_s"}


def run(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(["estimate", *args])
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def read(capsys, *args):
    code, out, err = run(capsys, *args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_keys_and_order(capsys):
    found = read(capsys, *LLM, "--limit", "30")
    rows = found["estimates"]
    assert len(rows) == 30
    assert all(set(row) == KEYS | {"region", "note"} for row in rows)
    dollars = [row["usd"] for row in rows]
    assert dollars == sorted(dollars)
    assert {"measured", "roofline"} <= {row["basis"] for row in rows}
    assert all(set(row) == {"offer", "reason", "count"} for row in found["refused"])
    assert sum(row["count"] for row in found["refused"]) > 100


def test_by_speed(capsys):
    times = [r["service_s"] for r in read(capsys, *LLM, "--sort", "speed")["estimates"]]
    assert times == sorted(times)


def test_named_offers(capsys):
    found = read(capsys, *LLM, "--offer", "aws/m9g.2xlarge", "--offer", "aws/p5.4xlarge")
    assert {row["offer"] for row in found["estimates"]} == {"aws/m9g.2xlarge", "aws/p5.4xlarge"}
    assert found["refused"] == []


def test_concurrency_makes_a_gpu_cheaper(capsys):
    one = read(capsys, *LLM, "--offer", "aws/p5.4xlarge")["estimates"][0]
    many = read(capsys, *LLM, "--offer", "aws/p5.4xlarge", "--concurrency", "16")["estimates"][0]
    assert many["usd"] < one["usd"]
    assert many["service_s"] >= one["service_s"]


def test_tool_steps(capsys):
    found = read(
        capsys, "--kind", "tool", "--cpu-s", "0.5", "--offer", "local", "--offer", "aws/m9g.large"
    )
    assert {row["offer"] for row in found["estimates"]} == {"local", "aws/m9g.large"}
    here = next(row for row in found["estimates"] if row["offer"] == "local")
    assert here["service_s"] == 0.5
    assert here["ttft_s"] is None


def test_table(capsys):
    code, out, _ = run(capsys, *LLM, "--limit", "3")
    assert code == 0
    assert "next token" in out
    assert "3 of " in out
    assert "refused for want of facts" in out
    code, out, _ = run(capsys, "--kind", "tool", "--cpu-s", "1", "--limit", "3")
    assert code == 0
    assert "next token" not in out


def test_all_refused_is_an_error(capsys):
    code, out, err = run(
        capsys, "--model", "qwen3-32b", "--prompt", "9", "--output", "9", "--offer", "local"
    )
    assert code == 2
    assert out == ""
    assert "qwen3-32b was not measured" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--prompt", "3", "--output", "3"], "needs --model"),
        (["--kind", "tool"], "needs --cpu-s"),
        ([*LLM, "--cpu-s", "1"], "has no --cpu-s"),
        ([*LLM, "--cached", "301"], "--cached is more than --prompt"),
        ([*LLM, "--offer", "aws/m9g.lage"], "did you mean aws/m9g.large"),
        (["--model", "llama-9b", "--prompt", "3", "--output", "3"], "did you mean llama-7b"),
    ],
)
def test_mistakes_are_one_line(capsys, args, words):
    code, out, err = run(capsys, *args)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_the_example_of_the_help_works(capsys):
    example = command.epilog.partition("polysilicon estimate ")[2]
    code, out, _ = run(capsys, *shlex.split(example))
    assert code == 0
    assert "roofline" in out
