from __future__ import annotations

import json

import pytest

from polysilicon import catalog
from polysilicon.cli import main

AWS = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,"
    "Region,AvailabilityZone,Arch,Odd"
)
ROW = "c6g.2xlarge,,,8,16,,0.5,0.1,us-east-1,z1,arm64,x"
NEW = "zz9.large,,,2,4,,0.1,,us-east-1,z1,arm64,x"


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYSILICON_HOME", str(tmp_path / "home"))
    catalog.load.cache_clear()
    yield
    catalog.load.cache_clear()


def prices(tmp_path, *rows, name="vms.csv"):
    path = tmp_path / name
    path.write_text("\n".join([AWS, *rows]) + "\n", "utf-8")
    return path


def runs(tmp_path, value="5", name="My runs.csv"):
    path = tmp_path / name
    path.write_text(f"processor,model,tpot_ms\nNVIDIA L4,m,{value}\n", "utf-8")
    return path


def run(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(["catalog", *map(str, args)])
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def read(capsys, *args):
    code, out, err = run(capsys, *args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_imported_prices_are_listed_and_shown_with_their_source(capsys, tmp_path):
    told = read(capsys, "import", prices(tmp_path, ROW, NEW), "--date", "2026-11-20")["imports"][0]
    assert (told["name"], told["cloud"], told["offers"], told["kept"]) == (
        "aws-offers", "aws", 2, True,
    )  # fmt: skip
    assert told["ignored_columns"] == ["Odd"]
    facts = read(capsys, "show", "aws/c6g.2xlarge")["facts"]
    price = next(
        f for f in facts if f["fact"] == "on_demand_usd_per_hour" and f["of"] == "us-east-1"
    )
    assert (price["value"], price["source"]) == ("0.5", "SkyPilot catalog vms.csv")
    assert price["date"] == "2026-11-20"
    rows = read(capsys, "list", "--vendor", "aws", "--sort", "price", "--limit", "1")["offers"]
    assert rows
    assert read(capsys, "show", "aws/zz9.large")["kind"] == "offer"


def test_a_trial_keeps_nothing(capsys, tmp_path):
    code, out, _ = run(capsys, "import", prices(tmp_path, ROW), "--dry-run")
    assert code == 0
    assert "would be kept as aws-offers" in out
    assert "not looked at: Odd" in out
    assert read(capsys, "import", "--list")["imports"] == []
    assert run(capsys, "import", "--list")[1] == "nothing was imported\n"


def test_measurements_are_kept_and_named_after_their_file(capsys, tmp_path):
    code, out, _ = run(capsys, "import", runs(tmp_path))
    assert code == 0
    assert "1 measurements kept as my-runs" in out
    assert [row.tpot_ms for row in catalog.load().measurements] == [5.0]
    assert "my-runs" in run(capsys, "import", "--list")[1]
    assert read(capsys, "import", "--remove", "my-runs")["removed"] == ["my-runs"]
    assert catalog.load().measurements == ()


def test_nothing_is_kept_where_one_file_is_bad(capsys, tmp_path):
    code, out, err = run(capsys, "import", prices(tmp_path, ROW), runs(tmp_path, "-5"))
    assert (code, out) == (2, "")
    assert "row 2, tpot_ms: '-5'" in err
    assert read(capsys, "import", "--list")["imports"] == []
    told = read(capsys, "import", prices(tmp_path, ROW, "x.large,,,1"), "--skip-bad")["imports"]
    assert told[0]["skipped"][0]["count"] == 1


def test_what_was_handled_and_left_out_is_told(capsys, tmp_path):
    lines = [ROW, NEW.replace("0.1,,", "700.0,,"), ROW.replace("0.1", "0.5").replace("z1", "z2")]
    code, out, _ = run(capsys, "import", prices(tmp_path, *lines))
    assert code == 0
    assert "left out 1: no price is known" in out
    assert "handled 1: Price of 700: not known" in out
    assert "handled 1: spot price equal to the on-demand price: not known" in out


def test_removal_is_of_all_or_none(capsys, tmp_path):
    run(capsys, "import", prices(tmp_path, ROW), "--name", "mine")
    code, _, err = run(capsys, "import", "--remove", "mine", "--remove", "min")
    assert code == 2
    assert "nothing was imported as 'min'; did you mean mine?" in err
    assert [one["name"] for one in read(capsys, "import", "--list")["imports"]] == ["mine"]
    assert "removed mine" in run(capsys, "import", "--remove", "mine")[1]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["import"], "give files, --list or --remove"),
        (["import", "--list", "--remove", "x"], "give files, --list or --remove"),
        (["import", "none.csv"], "no such file"),
        (["import", "{prices}", "--date", "today"], "--date: 'today' must be a date"),
        (["import", "{prices}", "--name", "../up"], "cannot be the name of an import"),
        (["import", "{prices}", "{runs}", "--name", "x"], "--name is of one file"),
        (["import", "{prices}", "{more}"], "two files would be kept as 'aws-offers'"),
        (["import", "{runs}", "--cloud", "aws"], "--cloud is of price files"),
        (["import", "{none}"], "no row of it is an offer; no price is known"),
        (["import", "{blank}"], "it has no rows"),
        (["diff", "shipped", "nothing"], "no catalog, import or file 'nothing'"),
        (["diff", "shipped", "{runs}"], "not a price file"),
        (["diff", "shipped", "{folder}"], "the folder holds no catalog"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, args, words):
    files = {
        "prices": prices(tmp_path, ROW),
        "more": prices(tmp_path, NEW, name="more.csv"),
        "none": prices(tmp_path, NEW.replace("0.1,,", ",,"), name="none.csv"),
        "runs": runs(tmp_path),
        "blank": runs(tmp_path, name="blank.csv"),
        "folder": tmp_path / "folder",
    }
    files["folder"].mkdir()
    files["blank"].write_text("processor,model,tpot_ms\n", "utf-8")
    code, out, err = run(capsys, *(str(arg).format(**files) for arg in args))
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_diff_of_catalogs_imports_and_files(capsys, tmp_path):
    path = prices(tmp_path, ROW, NEW)
    run(capsys, "import", path, "--name", "mine")
    known = catalog.load()
    was = 0.272
    for after in ("user", "mine", str(path), str(tmp_path / "home" / "catalog" / "mine")):
        found = read(capsys, "diff", "shipped", after)
        change = next(c for c in found["prices"] if c["price"] == "on-demand")
        assert (change["name"], change["region"]) == ("aws/c6g.2xlarge", "us-east-1")
        assert change["from_usd_per_hour"] == was
        assert change["change"] == pytest.approx(0.5 / was - 1)
        assert [p["name"] for p in found["added"]] == ["aws/zz9.large"]
        assert "aws" in found["clouds"]
        assert (found["counts"]["removed"] == 0) == (after == "user")
    assert known.offer("aws/c6g.2xlarge", "us-east-1").on_demand_usd_per_hour == 0.5
    code, out, _ = run(capsys, "diff", "shipped", "mine", "--limit", "2")
    assert code == 0
    assert "at most 2 of each are shown" in out
    assert "+83.8 %" in out
    assert len(read(capsys, "diff", "shipped", "mine", "--limit", "2")["removed"]) == 2


def test_a_whole_catalogs_folder_can_be_compared(capsys):
    folder = catalog.tables.data_folder()
    found = read(capsys, "diff", "shipped", str(folder))
    assert set(found["counts"].values()) == {0}
    assert "0 prices changed" in run(capsys, "diff", "shipped", str(folder))[1]


@pytest.mark.parametrize("verb", ["import", "diff"])
def test_help_has_an_example(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert "Example:" in out
