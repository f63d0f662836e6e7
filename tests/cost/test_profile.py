from __future__ import annotations

import msgspec
import pytest

from polysilicon.cost.profile import profile_path, read_profile, spread, write_profile
from polysilicon.cost.profile_found import find_profile
from polysilicon.errors import InputError
from profiles import MACHINE, llm_profile, profile


def test_a_profile_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "deep" / "profile.json"
    write_profile(profile(), path)
    assert read_profile(path) == profile()
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]


def test_it_lies_in_the_data_folder_or_where_the_variable_says(tmp_path):
    home = {"POLYSILICON_HOME": str(tmp_path / "a"), "XDG_DATA_HOME": str(tmp_path / "b")}
    assert profile_path(home) == tmp_path / "a" / "profile.json"
    del home["POLYSILICON_HOME"]
    assert profile_path(home) == tmp_path / "b" / "polysilicon" / "profile.json"
    assert profile_path({}).parts[-4:] == (".local", "share", "polysilicon", "profile.json")


def test_it_holds_on_its_own_machine(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(profile(), path)
    found = find_profile(MACHINE, path)
    assert found.profile == profile()
    assert found.note == ""


def test_without_one_there_is_nothing_to_say(tmp_path):
    found = find_profile(MACHINE, tmp_path / "profile.json")
    assert (found.profile, found.note) == (None, "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cpu": "Other CPU"}, "its CPU is 'Test CPU', not 'Other CPU'"),
        ({"arch": "aarch64"}, "architecture"),
        ({"cores": 4}, "number of cores is 2, not 4"),
        ({"memory_bytes": 2**30}, "amount of memory"),
    ],
)
def test_that_of_another_machine_is_not_used_and_says_so(tmp_path, change, told):
    path = tmp_path / "profile.json"
    write_profile(profile(), path)
    found = find_profile(msgspec.structs.replace(MACHINE, **change), path)
    assert found.profile is None
    assert told in found.note
    assert "polysilicon calibrate" in found.note


def test_a_little_less_memory_is_the_same_machine(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(profile(), path)
    less = msgspec.structs.replace(MACHINE, memory_bytes=int(MACHINE.memory_bytes * 0.99))
    assert find_profile(less, path).profile is not None


def test_a_model_of_another_engine_version_is_left_out(tmp_path):
    path = tmp_path / "profile.json"
    old = llm_profile(model="old", engine_version="0.0.1")
    write_profile(profile(llm={"tiny": llm_profile(), "old": old}), path)
    found = find_profile(MACHINE, path)
    assert set(found.profile.llm) == {"tiny"}
    assert "profile of old is not used" in found.note


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a profile"),
        (b"\xff\xfe", "not a profile"),
        (b'{"format": 99}', "another format"),
        (b'{"format": 1, "colour": "red"}', "not a profile"),
        (b"[]", "not a profile"),
    ],
)
def test_a_broken_one_is_named_with_the_mend(tmp_path, content, told):
    path = tmp_path / "profile.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as caught:
        read_profile(path)
    assert str(path) in str(caught.value)
    assert "run `polysilicon calibrate`" in str(caught.value)


def test_a_missing_one_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no profile"):
        read_profile(tmp_path / "profile.json")


def test_a_spread_holds_the_middle_and_the_ends():
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert (found.median, found.low, found.high, found.repeats) == (2.5, 1.0, 10.0, 4)


def test_what_a_core_keeps_is_told():
    assert profile().core_speed.kept == pytest.approx(0.9)


def test_a_server_without_a_name_is_no_engine_of_a_model():
    servers = (llm_profile(engine=""), llm_profile(engine="vllm"))
    names = [one.engine for one in profile(servers=servers).engines_of("tiny")]
    assert names == ["llama.cpp", "vllm"]
