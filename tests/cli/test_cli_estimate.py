from __future__ import annotations

import json
import shlex

import pytest

from polysilicon import catalog
from polysilicon.cli import main
from polysilicon.cli.estimate import command

MODEL = ["--model", "smollm2-135m-instruct"]
LLM = [*MODEL, "--prompt", "300", "--output", "40"]
HERE = ["--measured-on", "aws/m7g.large"]
TOOL = ["--kind", "tool", "--cpu-s", "0.5", *HERE]
KEYS = {"offer", "service_s", "ttft_s", "tpot_s", "usd", "joules", "basis", "low_s", "high_s"}
BANDS = {"ttft_low_s", "ttft_high_s", "tpot_low_s", "tpot_high_s"}
MORE = {"region", "note", "carbon_g", "kind", "tokens_per_s", "slo"} | BANDS
GPU = ["--offer", "aws/p5.4xlarge"]
SEVERAL = [
    part
    for name in ("aws/m9g.2xlarge", "aws/m9g.24xlarge", "aws/c8i.8xlarge", "azure/Standard_D8ps_v6")
    for part in ("--offer", name)
]


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
    found = read(capsys, *LLM, "--chips", "cpu", "--limit", "30")
    rows = found["estimates"]
    assert len(rows) == 30 < found["offers"]
    assert all(set(row) == KEYS | MORE for row in rows)
    assert all(row["low_s"] <= row["service_s"] <= row["high_s"] for row in rows)
    dollars = [row["usd"] for row in rows]
    assert dollars == sorted(dollars)
    assert all(set(row) == {"offer", "reason", "count"} for row in found["refused"])
    counts = [row["count"] for row in found["refused"]]
    assert counts == sorted(counts, reverse=True)


def test_every_offer_is_an_estimate_or_a_refusal_once(capsys):
    found = read(capsys, *TOOL)
    names = [row["offer"] for row in found["estimates"]]
    known = {offer.name for offer in catalog.load().offers} | {"local"}
    assert len(names) == len(set(names)) == found["offers"]
    assert set(names) <= known
    assert found["offers"] + sum(row["count"] for row in found["refused"]) == len(known)


def test_by_speed(capsys):
    rows = read(capsys, *LLM, *SEVERAL, "--sort", "speed")["estimates"]
    times = [row["service_s"] for row in rows]
    assert times == sorted(times)
    dollars = [row["usd"] for row in rows]
    assert dollars != sorted(dollars)


def test_named_offers(capsys):
    found = read(capsys, *LLM, "--offer", "aws/m9g.2xlarge", *GPU, "--offer", "aws/m9g.2xlarge")
    assert {row["offer"]: row["kind"] for row in found["estimates"]} == {
        "aws/m9g.2xlarge": "cpu",
        "aws/p5.4xlarge": "gpu",
    }
    assert found["refused"] == []


def test_only_some_chips(capsys):
    found = read(capsys, *LLM, *GPU, "--offer", "aws/m9g.2xlarge", "--chips", "gpu")
    assert [row["kind"] for row in found["estimates"]] == ["gpu"]


def test_concurrency_makes_a_gpu_cheaper(capsys):
    one = read(capsys, *LLM, *GPU)["estimates"][0]
    many = read(capsys, *LLM, *GPU, "--concurrency", "16")["estimates"][0]
    assert many["usd"] < one["usd"]
    assert many["service_s"] >= one["service_s"]
    assert many["tokens_per_s"] == pytest.approx(16 * 40 / many["service_s"])


def test_a_cached_prompt_is_faster(capsys):
    long = ["--model", "llama-3.1-8b", "--prompt", "16000", "--output", "40"]
    cold = read(capsys, *long, *GPU)["estimates"][0]
    warm = read(capsys, *long, *GPU, "--cached", "15000")["estimates"][0]
    assert warm["ttft_s"] < cold["ttft_s"]


def test_serving_is_told_in_the_note(capsys):
    args = [*LLM, *GPU, "--engine", "sglang", "--precision", "fp8", "--concurrency", "4"]
    note = read(capsys, *args)["estimates"][0]["note"]
    assert "sglang, fp8" in note


def test_parallelism_is_for_accelerators(capsys):
    args = ["--model", "llama-3.3-70b-instruct", "--prompt", "100", "--output", "10", "--tp", "4"]
    args += ["--offer", "aws/p5.48xlarge", "--offer", "aws/m9g.24xlarge", *GPU]
    found = read(capsys, *args)
    assert [row["offer"] for row in found["estimates"]] == ["aws/p5.48xlarge"]
    assert "4 accelerators of 8" in found["estimates"][0]["note"]
    reasons = {row["offer"]: row["reason"] for row in found["refused"]}
    assert "not over CPUs" in reasons["aws/m9g.24xlarge"]
    assert "4 of 1" in reasons["aws/p5.4xlarge"]


def test_tool_steps(capsys):
    args = ["--kind", "tool", "--cpu-s", "0.5", "--offer", "local", "--offer", "aws/m9g.large"]
    rows = {row["offer"]: row for row in read(capsys, *args)["estimates"]}
    assert set(rows) == {"local", "aws/m9g.large"}
    assert rows["local"]["service_s"] == pytest.approx(0.5, rel=0.1)
    assert rows["local"]["ttft_s"] is rows["local"]["tokens_per_s"] is None


def test_core_seconds_of_another_offer(capsys):
    rows = read(capsys, *TOOL, "--offer", "aws/m7g.large", "--offer", "aws/m9g.large")["estimates"]
    seconds = {row["offer"]: row["service_s"] for row in rows}
    assert seconds["aws/m7g.large"] == pytest.approx(0.5, rel=0.01)
    assert seconds["aws/m9g.large"] < 0.5


def test_a_busy_machine_is_slower(capsys):
    idle = read(capsys, *TOOL, "--offer", "aws/c8i.8xlarge")["estimates"][0]
    busy = read(capsys, *TOOL, "--offer", "aws/c8i.8xlarge", "--utilisation", "1.5")["estimates"][0]
    assert busy["service_s"] > 1.5 * idle["service_s"]


def test_embedding_by_tokens_and_by_core_seconds(capsys):
    args = ["--kind", "embed", "--model", "bge-base-en-v1.5", "--prompt", "5000"]
    row = read(capsys, *args, *GPU)["estimates"][0]
    assert row["tokens_per_s"] == pytest.approx(5000 / row["service_s"])
    args = ["--kind", "embed", "--cpu-s", "2", *HERE, "--offer", "aws/m7g.large"]
    assert read(capsys, *args)["estimates"][0]["service_s"] == pytest.approx(2.0, rel=0.01)


def test_training_by_method(capsys):
    args = ["--kind", "train", "--model", "llama-3.1-8b", "--prompt", "1000000"]
    args += ["--offer", "aws/p5.48xlarge"]
    full = read(capsys, *args)["estimates"][0]
    lora = read(capsys, *args, "--method", "lora")["estimates"][0]
    assert "full" in full["note"]
    assert "lora" in lora["note"]
    assert lora["usd"] < full["usd"]


def test_price_and_region(capsys):
    offer = ["--offer", "gcp/c3-highmem-4"]
    year = read(capsys, *TOOL, *offer, "--price", "1y")["estimates"][0]
    demand = read(capsys, *TOOL, *offer)["estimates"][0]
    assert year["usd"] < demand["usd"]
    there = read(capsys, *TOOL, *offer, "--region", "Europe-West4")["estimates"][0]
    assert there["region"] == "europe-west4"
    assert there["usd"] > demand["usd"]


def test_the_cheapest_region_is_that_of_the_price(capsys):
    row = read(capsys, *TOOL, "--offer", "aws/m8g.24xlarge", "--price", "spot")["estimates"][0]
    sold = catalog.load().offers_named("aws/m8g.24xlarge")
    spot = {o.region: o.spot_usd_per_hour for o in sold if o.spot_usd_per_hour is not None}
    assert row["region"] == min(spot, key=lambda region: (spot[region], region))


def test_an_offer_without_the_price_is_refused(capsys):
    names = ["--offer", "gcp/c3-highmem-4", "--offer", "aws/m9g.large", "--offer", "aws/m9g.xlarge"]
    found = read(capsys, *TOOL, *names, "--price", "3y")
    assert found["refused"] == [
        {"offer": "aws/m9g.large", "reason": "no 3y price is known", "count": 2}
    ]


def test_an_slo_leaves_slow_offers_out(capsys):
    rows = read(capsys, *LLM, *SEVERAL, "--sort", "speed")["estimates"]
    assert all(row["slo"] is None for row in rows)
    middle = (rows[1]["service_s"] + rows[2]["service_s"]) / 2
    found = read(capsys, *LLM, *SEVERAL, "--slo", str(middle))
    assert (found["offers"], found["missed_slo"]) == (2, 2)
    for row in found["estimates"]:
        assert row["service_s"] <= middle
        assert row["slo"] == ("unsure" if row["high_s"] > middle else "kept")
    later = sorted(row["tpot_s"] for row in rows)
    found = read(capsys, *LLM, *SEVERAL, "--slo-tpot", str(later[0]))
    assert [row["tpot_s"] for row in found["estimates"]] == [later[0]]
    first = sorted(row["ttft_s"] for row in rows)
    found = read(capsys, *LLM, *SEVERAL, "--slo-ttft", str(first[2]))
    assert found["missed_slo"] == 1
    told = {row["offer"]: row["slo"] for row in found["estimates"]}
    slow = {row["offer"]: row["ttft_high_s"] > first[2] for row in rows}
    assert told == {name: "unsure" if slow[name] else "kept" for name in told}


def test_an_slo_that_none_keeps_is_infeasible(capsys):
    code, out, err = run(capsys, *LLM, *SEVERAL, "--slo", "0.000001")
    assert (code, out) == (3, "")
    assert "no offer keeps the SLO (≤ 1 µs); the fastest is " in err
    assert err.count("\n") == 1


def test_table(capsys):
    code, out, _ = run(capsys, *LLM, *SEVERAL, "--limit", "3")
    assert code == 0
    assert "next token" in out
    assert "3 of 4 offers; none refused" in out
    assert out.count("●") == 3
    code, out, _ = run(capsys, *TOOL, "--limit", "2")
    assert code == 0
    assert "next token" not in out
    assert "refused for want of facts; most often: " in out


def test_table_with_an_slo(capsys):
    rows = read(capsys, *LLM, *SEVERAL)["estimates"]
    slowest = max(row["service_s"] for row in rows)
    _, out, _ = run(capsys, *LLM, *SEVERAL, "--slo", str(slowest))
    assert "0 more miss the SLO" in out
    assert "? a band of its seconds reaches above the SLO" in out


def test_html(capsys, tmp_path):
    page = tmp_path / "page.html"
    code, out, _ = run(capsys, *LLM, *SEVERAL, *GPU, "--html", str(page))
    assert code == 0
    assert "page:" in out
    text = page.read_text(encoding="utf-8")
    assert text.count("<circle") == 5
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    for offer in SEVERAL[1::2]:
        assert offer in text


def test_a_page_that_cannot_be_written_is_one_line(capsys, tmp_path):
    code, _, err = run(capsys, *TOOL, "--html", str(tmp_path / "none" / "page.html"))
    assert code == 1
    assert "cannot be written" in err
    assert err.count("\n") == 1


def test_all_refused_is_an_error(capsys):
    args = ["--model", "llama-3.3-70b-instruct", "--prompt", "9", "--output", "9"]
    code, out, err = run(capsys, *args, "--offer", "aws/m9g.large")
    assert (code, out) == (2, "")
    assert "aws/m9g.large: it does not fit" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--prompt", "3", "--output", "3"], "needs --model"),
        (["--kind", "tool"], "needs --cpu-s"),
        (["--kind", "embed"], "needs --model"),
        (["--kind", "train", *MODEL], "needs --prompt"),
        ([*LLM, "--cpu-s", "1"], "has no --cpu-s"),
        ([*LLM, "--method", "lora"], "has no --method"),
        ([*TOOL, "--engine", "vllm"], "has no --engine"),
        ([*TOOL, "--concurrency", "2"], "has no --concurrency"),
        (["--kind", "embed", "--cpu-s", "1", *MODEL], "not both"),
        (["--kind", "embed", *MODEL, "--prompt", "1", *HERE], "--measured-on needs --cpu-s"),
        ([*LLM, "--cached", "301"], "--cached is more than --prompt"),
        ([*LLM, "--offer", "aws/m9g.lage"], "did you mean aws/m9g.large"),
        ([*LLM, "--region", "us-est-1"], "did you mean us-west-1, us-east-1"),
        ([*LLM, "--region", "us-east-1", "--offer", "gcp/n4a-highcpu-8"], "no offer is what"),
        ([*LLM, "--engine", "vlm"], "did you mean vllm"),
        ([*LLM, "--precision", "fp5"], "did you mean fp8"),
        ([*LLM, "--tp", "3", "--count", "4"], "each must divide 4"),
        ([*LLM, "--ep", "4"], "no experts to spread"),
        ([*LLM, "--count", "0"], "0 is not between 1 and"),
        ([*MODEL, "--prompt", "-3", "--output", "3"], "-3 is not between 1 and"),
        ([*MODEL, "--prompt", "1.5", "--output", "3"], "'1.5' is no whole number"),
        ([*MODEL, "--prompt", "1000000000", "--output", "3"], "at most 100000000"),
        (["--kind", "tool", "--cpu-s", "nan"], "nan is not between"),
        (["--kind", "tool", "--cpu-s", "much"], "'much' is no number"),
        ([*TOOL, "--slo", "-1"], "-1 is not between"),
        ([*TOOL, "--measured-on", "aws/m7g.lrge"], "did you mean aws/m7g.large"),
        (["--kind", "embed", "--model", "bge-m4", "--prompt", "9"], "did you mean bge-m3"),
        (["--model", "llama-9b", "--prompt", "3", "--output", "3"], "did you mean llama-7b"),
    ],
)
def test_mistakes_are_one_line(capsys, args, words):
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_help_groups_the_options(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    headings = [line[:-1] for line in out.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["The step", "How it is served", "Where", "What is shown", "Options"]


def test_the_example_of_the_help_works(capsys):
    example = command.epilog.partition("polysilicon estimate ")[2]
    code, out, _ = run(capsys, *shlex.split(example), "--chips", "cpu")
    assert code == 0
    assert "more miss the SLO" in out
