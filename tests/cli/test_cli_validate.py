from __future__ import annotations

import csv
import json

import pytest

from polysilicon import catalog
from polysilicon.cli import main

HEADER = (
    "instance,processor,count,engine,model,precision,concurrency,prompt_tokens,output_tokens,"
    "prefill_tokens_per_s,decode_tokens_per_s"
)
CPU = "AWS Graviton5,16,llama.cpp,gemma-2b.Q4_K_M.gguf,Q4_K_M,1"
ROWS = [
    f"aws/m9g.4xlarge,{CPU},512,0,200,",
    f"aws/m9g.4xlarge,{CPU},0,128,,40",
    f"aws/m9g.4xlarge,{CPU.replace('gemma-2b', 'no-such')},0,128,,40",
]


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYSILICON_HOME", str(tmp_path / "home"))


def write(tmp_path, *rows, header=HEADER):
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


def run(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(["validate", *map(str, args)])
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def test_scores_as_json(capsys, tmp_path):
    code, out, err = run(capsys, write(tmp_path, *ROWS), "--json", "--worst", "1")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["rows"], found["predicted"], found["refused"]) == (3, 2, 1)
    assert found["refusals"][0]["count"] == 1
    assert "unknown model" in found["refusals"][0]["reason"]
    assert set(found["overall"]) == {"prefill_tokens_per_s", "decode_tokens_per_s"}
    assert {"n", "mape", "median_ape", "r2", "coverage"} <= set(
        found["overall"]["decode_tokens_per_s"]
    )
    for group in found["groups"]:
        assert (group["processor"], group["engine"], group["n"]) == (
            "AWS Graviton5",
            "llama.cpp",
            1,
        )
        assert {"metric", "mape", "median_ape", "bias"} <= set(group)
    assert found["worst"][0]["error"]
    assert "skipped" not in found


def test_scores_as_tables_a_page_and_a_file(capsys, tmp_path):
    page, file = tmp_path / "new" / "p.html", tmp_path / "p.csv"
    code, out, _ = run(
        capsys, write(tmp_path, *ROWS), "--by", "model", "--worst", "5", "--html", page, "-o", file
    )
    assert code == 0
    assert "3 rows, 2 predicted, 1 refused" in out
    assert "gemma-2b" in out
    assert "refused 1: unknown model" in out
    assert "--hold-out scores rows that were not fitted" in out
    html = page.read_text("utf-8")
    assert "<svg" in html
    assert "unknown model" in html
    assert "://" not in html
    lines = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    assert [line["metric"] for line in lines] == [
        "prefill_tokens_per_s", "decode_tokens_per_s", "",
    ]  # fmt: skip
    assert "unknown model" in lines[2]["refused"]
    assert float(lines[0]["low"]) <= float(lines[0]["predicted"]) <= float(lines[0]["high"])


def test_bad_rows_are_an_error_or_counted(capsys, tmp_path):
    bad = ROWS[0].replace(",200,", ",-200,")
    path = write(tmp_path, ROWS[0], bad)
    code, out, err = run(capsys, path)
    assert (code, out) == (2, "")
    assert "row 3, prefill_tokens_per_s: '-200': must be greater than 0" in err
    assert err.count("\n") == 1
    code, out, _ = run(capsys, path, "--skip-bad", "--json")
    assert code == 0
    assert json.loads(out)["skipped"] == [
        {"reason": "prefill_tokens_per_s: must be greater than 0", "count": 1}
    ]
    assert "left out 1" in run(capsys, path, "--skip-bad")[1]


def measured_rows(chips):
    """Rows of a measurement file, made of rates that come with the package."""
    known = catalog.load()
    columns = {
        "prefill_512_tokens_per_s": (512, 0), "prefill_4096_tokens_per_s": (4096, 0),
        "decode_128_tokens_per_s": (0, 128), "decode_512_tokens_per_s": (0, 512),
    }  # fmt: skip
    for offer in dict.fromkeys(o.name for o in known.offers if o.processor is not None):
        chip = known.offer(offer).processor.name
        for rate in known.rates.get(offer, ()) if chip in chips else ():
            for column, (prompt, output) in columns.items():
                value = getattr(rate, column)
                if value is not None and rate.engine == "llama.cpp":
                    figures = f",{value}" if output else f"{value},"
                    vcpus = known.offer(offer).vcpus
                    yield (
                        f"{offer},{chip},{vcpus},llama.cpp,{rate.model},q4_k_m,1,"
                        f"{prompt},{output},{figures}"
                    )


def test_hold_out_fits_without_each_fold(capsys, tmp_path):
    rows = list(measured_rows({"AWS Graviton3", "AWS Graviton4", "AWS Graviton5"}))
    path = write(tmp_path, *rows)
    assert len(rows) > 100
    code, out, _ = run(capsys, path, "--hold-out", "random", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["predicted"] > 0.9 * found["rows"]
    # Other rows of the same servers are known, so this is close, and not what was measured.
    for score in found["overall"].values():
        assert 0.001 < score["median_ape"] < 0.3
    code, _, err = run(capsys, path, "--hold-out", "engine")
    assert code == 2
    assert "nothing is left to fit" in err
    code, out, _ = run(capsys, path, "--hold-out", "processor")
    assert code == 0
    assert "that were not fitted" not in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["none.csv"], "no such file"),
        (["none.txt"], "unknown kind of file"),
        (["none.csv", "--by", "colour"], "colour"),
        (["none.csv", "--worst", "0"], "worst"),
    ],
)
def test_mistakes_are_one_line(capsys, args, words):
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_help_has_an_example(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "Example:" in out
