from __future__ import annotations

from pathlib import Path

import pytest

from polysilicon.catalog.fleet import (
    Fleet,
    OwnPrice,
    Pool,
    read_fleet,
    read_running_fleet,
    write_fleet,
)
from polysilicon.errors import InputError

GOOD = """
[[pool]]
name = "here"
serves = ["tool:*", "llm:small"]

[[pool]]
name = "gpu"
offer = "aws/g6.xlarge"
region = "us-east-1"
units = 2
serves = ["llm:big"]
engine = "openai"
endpoint = "http://127.0.0.1:8000/v1"
model = "big"
price = {usd_per_hour = 1.5}
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return path


def test_a_good_fleet(tmp_path: Path) -> None:
    here, gpu = read_fleet(_write(tmp_path, GOOD)).pool
    assert (here.offer, here.engine, here.concurrency) == ("local", "llama.cpp", 8)
    assert gpu.price == OwnPrice(usd_per_hour=1.5)
    assert here.serves_step("tool", "search")
    assert here.serves_step("llm", "small")
    assert not here.serves_step("llm", "big")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "missing required field `pool`"),
        ("pool = []", "no pool"),
        ("[[pool]]\nname = ", "fleet.toml"),
        ('[[pool]]\nname = "a"\ncolour = "red"', "unknown field `colour`"),
        ('[[pool]]\nname = "a"\n[[pool]]\nname = "a"\noffer = "x/y"', "two pools have this name"),
        ('[[pool]]\nname = "a"\n[[pool]]\nname = "b"', "two pools have offer local"),
        ('[[pool]]\nname = "a"\nconcurrency = 0', "at least 1"),
        ('[[pool]]\nname = "a"\ncount = 0', "count must be at least 1"),
        ('[[pool]]\nname = "a"\nthreads = 0', "threads must be at least 1"),
        ('[[pool]]\nname = "a"\nunits = 10000000000000', "too large"),
        (
            '[[pool]]\nname = "a"\n[[link]]\nregions = ["x", "x"]\ndelay_s = 1.0',
            "between two regions",
        ),
    ],
)
def test_bad_fleets_are_one_line_that_names_the_file(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(InputError, match=error) as caught:
        read_fleet(_write(tmp_path, text))
    assert "fleet.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('engine = "openai"', "needs an endpoint"),
        (
            'engine = "openai"\nendpoint = "http://x/v1"\nmodel = "m"\nprompt_lookup = true',
            "prompt_lookup is for llama.cpp",
        ),
        (
            'engine = "openai"\nendpoint = "http://x/v1"\nmodel = "m"\nthreads = 1',
            "threads is for llama.cpp",
        ),
        ('engine = "openai"\nendpoint = "http://x"', "needs a model"),
        ('offer = "aws/m9g.large"', "only on offer local"),
        ('engine = "openai"\nendpoint = "http://x"\nmodel = "m"', "serves no tools"),
    ],
)
def test_pools_that_are_not_there_can_be_read_but_not_run(
    tmp_path: Path, text: str, error: str
) -> None:
    path = _write(tmp_path, f'[[pool]]\nname = "a"\n{text}')
    assert read_fleet(path).pool[0].name == "a"
    with pytest.raises(InputError, match=error) as caught:
        read_running_fleet(path)
    assert "pool 'a'" in str(caught.value)


def test_a_missing_fleet_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_fleet(tmp_path / "none.toml")


def test_a_fleet_is_read_as_it_was_written(tmp_path):
    pools = (
        Pool(name='tools "here"', serves=("tool:*",)),
        Pool(
            name="gpu",
            offer="aws/g6.xlarge",
            region="us-east-1",
            units=3,
            serves=("llm:m",),
            engine="openai",
            model="m",
            count=1,
            price=OwnPrice(usd_per_hour=0.7),
            usd_per_s=1.25e-5,
        ),
    )
    write_fleet(Fleet(pool=pools), tmp_path / "f.toml")
    assert read_fleet(tmp_path / "f.toml") == Fleet(pool=pools)


def test_a_dual_price_is_a_number_from_0(tmp_path):
    (tmp_path / "f.toml").write_text('[[pool]]\nname = "a"\nusd_per_s = -1.0\n')
    with pytest.raises(InputError, match="usd_per_s"):
        read_fleet(tmp_path / "f.toml")


def test_servers_on_loopback_share_this_machine(tmp_path):
    server = (
        '[[pool]]\nname = "v"\nengine = "openai"\nmodel = "m"\nserves = ["llm:m"]\n'
        'recipe = "vllm-cpu"\nendpoint = "http://{}:8100/v1"\n'
    )
    path = _write(tmp_path, '[[pool]]\nname = "here"\n' + server.format("localhost"))
    here, beside = read_running_fleet(path).pool
    assert (here.is_here, beside.is_here, beside.recipe) == (False, True, "vllm-cpu")
    for far in ("10.0.0.9", "[::1"):
        path.write_text('[[pool]]\nname = "here"\n' + server.format(far))
        with pytest.raises(InputError, match="two pools have offer local"):
            read_running_fleet(path)
    assert Pool(name="v", engine="openai").is_here  # it is to be
