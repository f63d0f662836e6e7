from __future__ import annotations

import json
from functools import partial

import pytest

from polysilicon.cli import calibrate as verb
from polysilicon.cli import main
from polysilicon.cost.profile import read_profile, write_profile
from polysilicon.runtime.calibration import measure
from polysilicon.runtime.calibration import server as measuring
from profiles import MACHINE, llm_profile, profile


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("POLYSILICON_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "polysilicon"


@pytest.fixture
def measured(monkeypatch):
    """Makes the verb find a given profile instead of measuring for minutes."""

    def give(found):
        async def calibrate(machine, model, tell):
            tell("core speed", "")
            tell("llm", "prompt of 8 tokens")
            return found

        monkeypatch.setattr(measure, "calibrate", calibrate)
        monkeypatch.setattr("polysilicon.cli.running.fetch_model", lambda model, fleet: None)

    return give


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", *arguments])
    return int(caught.value.code or 0)


def test_json_has_the_keys_of_the_design(home, measured, capsys):
    measured(profile())
    assert run("--json") == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["processor"] == MACHINE.cpu
    assert found["core_speed"] == 1.2
    assert found["memory_bandwidth_gbs"] == 22.0
    rates = found["llm"]["tiny"]
    assert set(rates) == {"prefill_tokens_per_s", "decode_tokens_per_s"}
    assert "llm: prompt of 8 tokens" in shown.err
    assert read_profile(home / "profile.json") == profile()
    assert (home / "measurements.csv").is_file()


def test_a_person_sees_a_table_and_where_the_profile_is(home, measured, capsys):
    measured(profile())
    assert run() == 0
    text = capsys.readouterr().out
    for told in ("Test CPU", "1.20 times AWS Graviton3", "22.0 GB/s triad", "tiny", "of 28 mixed"):
        assert told in text
    assert str(home) in text.replace("\n", "")


def test_what_failed_is_told_and_the_rest_kept(home, measured, capsys):
    measured(profile(llm={}, search=None, failed={"llm": "out of memory"}, elsewhere=0.4))
    assert run() == 0
    told = capsys.readouterr().err
    assert "llm could not be measured: out of memory" in told
    assert "other programs used 40 %" in told
    assert read_profile(home / "profile.json").llm == {}
    assert not (home / "measurements.csv").exists()


def test_nothing_measured_is_an_error_and_leaves_the_old_profile(home, measured, capsys):
    measured(profile())
    run()
    measured(profile(llm={}, core_speed=None, memory_bandwidth=None, sandboxes={}, search=None))
    assert run() == 1
    assert "no profile was saved" in capsys.readouterr().err
    assert read_profile(home / "profile.json") == profile()


def test_an_interruption_keeps_the_old_profile(home, measured, monkeypatch, capsys):
    measured(profile())
    run()

    async def interrupted(machine, model, tell):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "calibrate", interrupted)
    assert run() == 130
    assert read_profile(home / "profile.json") == profile()
    assert sorted(p.name for p in home.iterdir()) == ["measurements.csv", "profile.json"]


def test_a_model_that_is_not_there_is_the_users_mistake(home, capsys):
    assert run("--model", "smollm2-135m-instrukt") == 2
    assert "did you mean smollm2-135m-instruct" in capsys.readouterr().err
    assert not home.exists()


def test_a_bare_profile_is_shown_too():
    bare = profile(
        llm={"tiny": llm_profile(trial=None)},
        core_speed=None,
        memory_bandwidth=None,
        search=None,
        train={},
    )
    assert [what for what, _ in verb.lines(bare)] == ["processor", "sandbox monty", "measured in"]
    assert verb._llm_table("tiny", bare.llm["tiny"]).caption is None
    unknown = partial(profile, core_speed=None)
    assert verb.as_keys(unknown(), path=MACHINE)["core_speed"] is None


@pytest.fixture
def server(monkeypatch):
    """An engine at any endpoint, that is measured at once."""
    found = llm_profile(engine="vllm", engine_version="0.32.0", precision="bf16")
    asked = []

    async def measure(endpoint, told, at_once, cores, tell):
        asked.append((endpoint, told, at_once))
        return found, 0.4

    monkeypatch.setattr(measuring, "told_by", lambda endpoint, model: (endpoint, model))
    monkeypatch.setattr(measuring, "measure_server", measure)
    return asked


def test_another_engine_is_added_to_the_profile_and_stays(
    home, measured, server, capsys, monkeypatch
):
    monkeypatch.setattr("polysilicon.catalog.machine.detect", lambda: MACHINE)
    endpoint = ["--endpoint", "http://127.0.0.1:8100/v1"]
    assert run(*endpoint) == 2
    assert (
        "this machine has no profile; run `polysilicon calibrate` first" in capsys.readouterr().err
    )
    measured(profile())
    assert run() == 0
    for _ in range(2):  # measured again, it takes the place of what was there
        assert run(*endpoint, "--concurrency", "32") == 0
    assert server[0] == ("http://127.0.0.1:8100/v1", ("http://127.0.0.1:8100/v1", None), 32)
    found = read_profile(home / "profile.json")
    assert [one.engine for one in found.servers] == ["vllm"]
    assert found.llm == profile().llm
    shown = capsys.readouterr()
    assert "tiny in vllm 0.32.0" in shown.out
    assert shown.err.count("other programs used 40 % of the machine") == 2
    assert ",vllm,0.32.0,tiny,bf16," in (home / "measurements.csv").read_text()
    assert run("--json") == 0
    assert json.loads(capsys.readouterr().out)["servers"][0]["engine"] == "vllm"
    assert read_profile(home / "profile.json").servers == found.servers
    assert run("--concurrency", "4") == 2


def test_what_is_measured_of_a_server_takes_nothing_from_the_profile(
    home, measured, server, capsys, monkeypatch
):
    monkeypatch.setattr("polysilicon.catalog.machine.detect", lambda: MACHINE)
    # Its engine was set up in another way when that was measured, and may be again.
    old = llm_profile(model="old", engine_version="0.0.1")
    before = profile(llm={"tiny": llm_profile(), "old": old}, elsewhere=0.02)
    write_profile(before, home / "profile.json")
    assert run("--endpoint", "http://127.0.0.1:8100/v1", "--json") == 0
    found = read_profile(home / "profile.json")
    assert found.llm == before.llm
    assert (found.elsewhere, json.loads(capsys.readouterr().out)["elsewhere"]) == (0.02, 0.4)
