from __future__ import annotations

from pathlib import Path

import pytest

from polysilicon.catalog.fleet import OwnPrice, read_fleet, read_running_fleet
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
        ('[[pool]]\nname = "a"\ncount = 0', "at least 1"),
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
