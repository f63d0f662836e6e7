from __future__ import annotations

import msgspec
import pytest

from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.machine import detect
from polysilicon.cost.engine_choice import (
    ENGINE,
    EngineChoice,
    EngineChoices,
    choices_path,
    cpu_key,
    engine_version,
    read_choices,
    version_in_use,
    write_choice,
)
from polysilicon.errors import InputError
from polysilicon.runtime.engines.native.choice import (
    FALLBACK,
    Setup,
    chosen,
    setup_of,
    sha256_or_blank,
)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("POLYSILICON_HOME", raising=False)
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(96))
    return path


def choice(**changes) -> EngineChoice:
    told = {
        "engine_version": engine_version(ENGINE),
        "cpu": cpu_key(detect()),
        "source_bytes": 100,
        "threads": 1,
        "micro_batch": 256,
    }
    return EngineChoice(**{**told, **changes})


def test_without_a_search_the_wheel_serves(model):
    found = chosen(model, 3)
    assert found.setup == Setup(threads=3)
    assert found.note == ""


def test_what_a_search_found_is_used(model, tmp_path):
    weights = tmp_path / "tiny.Q8_0.gguf"
    weights.write_bytes(b"GGUF")
    write_choice(
        "tiny",
        choice(weights=str(weights), weights_bytes=4, weight_format="Q8_0"),
        choices_path(),
    )
    found = chosen(model, 2)
    assert found.setup == Setup(weights=weights, threads=1, micro_batch=256)
    assert found.note == ""
    version = version_in_use(ENGINE, "tiny", detect(), choices_path())
    assert version == engine_version(ENGINE) + "+Q8_0.micro-batch.256"


def test_no_more_threads_than_cores(model):
    write_choice("tiny", choice(threads=64, alone_threads=32), choices_path())
    setup = chosen(model, 2).setup
    assert (setup.threads, setup.alone_threads) == (2, 2)


def test_a_pool_may_leave_cores_to_tools(model):
    write_choice("tiny", choice(threads=4, alone_threads=2), choices_path())

    def threads_of(pool: Pool, cores: int) -> tuple[int, int]:
        setup = setup_of(pool, model, cores)
        assert setup.micro_batch == 256
        return setup.threads, setup.alone_threads

    assert threads_of(Pool(name="a"), 4) == (4, 2)
    assert threads_of(Pool(name="a", threads=3), 4) == (3, 2)
    assert threads_of(Pool(name="a", threads=1), 4) == (1, 1)
    assert threads_of(Pool(name="a", threads=8), 4) == (4, 2)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cpu": "0" * 12}, "another CPU"),
        ({"engine_version": "1.0"}, "xllamacpp 1.0"),
        ({"source_bytes": 99}, "file has changed"),
        ({"weights": "/nowhere.gguf", "weights_bytes": 1}, "converted weights are gone"),
        ({"kernels": "/nowhere.so", "kernels_sha256": "0" * 64}, "kernels built here are gone"),
    ],
)
def test_what_no_longer_holds_falls_back_and_says_so(model, changes, word):
    write_choice("tiny", choice(**changes), choices_path())
    found = chosen(model, 2)
    assert found.setup == Setup(threads=2)
    assert word in found.note
    assert FALLBACK in found.note


def test_kernels_that_are_no_library_fall_back(model, tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    sha256 = sha256_or_blank(broken)
    write_choice("tiny", choice(kernels=str(broken), kernels_sha256=sha256), choices_path())
    found = chosen(model, 2)
    assert found.setup == Setup(threads=2)
    assert "broken.so" in found.note


@pytest.mark.parametrize(
    "content", [b"{", b'{"models": 3}', b'{"format": 9}', b"\xff", b'{"x": 1}']
)
def test_a_broken_file_falls_back_and_is_replaced(model, content):
    path = choices_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"engine\.json"):
        read_choices(path)
    found = chosen(model, 2)
    assert found.setup == Setup(threads=2)
    assert FALLBACK in found.note
    assert version_in_use(ENGINE, "tiny", detect(), path) == engine_version(ENGINE)
    write_choice("tiny", choice(), path)
    assert read_choices(path).models == {"tiny": choice()}


def test_models_have_choices_of_their_own(model):
    write_choice("a", choice(), choices_path())
    write_choice("b", choice(threads=2), choices_path())
    assert read_choices(choices_path()) == EngineChoices(
        models={"a": choice(), "b": choice(threads=2)}
    )


def test_other_instructions_are_another_cpu():
    machine = detect()
    more = msgspec.structs.replace(machine, isa_flags=machine.isa_flags | {"amx_of_tomorrow"})
    assert cpu_key(more) != cpu_key(machine)
