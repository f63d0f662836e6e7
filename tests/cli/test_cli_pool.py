"""`polysilicon pool …` from the command line, beside a gateway of this process."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from polysilicon.catalog.chips.found import Chip
from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.cli import main
from polysilicon.gateway.access import add_key
from polysilicon.gateway.joined.types import JoinRequest
from scripted_endpoint import Endpoint
from served_gateway import serving


def ran(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of `polysilicon pool`."""
    with pytest.raises(SystemExit) as stop:
        main(["pool", *args])
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def test_this_machine_and_what_starts_here(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = ran(capsys, "machine", "--json")
    told = json.loads(shown)
    assert code == 0
    assert told["hardware"]["cores"] >= 1
    assert told["hardware"]["cpu"]["kind"] == "cpu"
    code, shown, _ = ran(capsys, "recipes", "--json")
    here = {one["name"]: one for one in json.loads(shown)["recipes"]}
    assert here["llama.cpp"]["here"]
    assert here["vllm-tpu"]["sources"]
    assert ran(capsys, "machine")[0] == ran(capsys, "recipes")[0] == 0


def test_machines_are_listed_and_sent_away(tmp_path: Path, capsys) -> None:
    keys, secret = tmp_path / "keys.toml", tmp_path / "secret"
    secret.write_text(add_key(keys, "boss", admin=True, join=True) + "\n")
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[[pool]]\nname = "here"\noffer = "local"\nserves = ["tool:*"]\n')
    key = ("--key-file", str(secret))
    with (
        Endpoint(lambda _: {"content": "ok"}).served() as far,
        serving(tmp_path, fleet=fleet, keys=keys) as served,
    ):
        request = JoinRequest(
            id="a" * 16, endpoint=far.address, model="m", serves=("llm:m",),
            offer="aws/m9g.2xlarge",
            hardware=Hardware(cpu=Chip(kind="cpu", processor="AWS Graviton4"), arch="aarch64",
                              isa_class="arm", cores=8, memory_bytes=2**35),
        )  # fmt: skip
        headers = {"authorization": f"Bearer {secret.read_text().strip()}"}
        body = msgspec.to_builtins(request)
        served.client.put("/v1/pools/node-7", json=body, headers=headers)
        code, shown, _ = ran(capsys, "list", served.address, *key)
        assert code == 0
        assert "AWS Graviton4 found" in " ".join(shown.replace("│", " ").split())
        code, shown, _ = ran(capsys, "list", served.address, *key, "--json")
        assert [pool["name"] for pool in json.loads(shown)["pools"]] == ["here", "node-7"]
        assert ran(capsys, "leave", served.address, "node-7", *key) == (
            0, "node-7 gets no more steps\n", "",
        )  # fmt: skip
        code, _, told = ran(capsys, "leave", served.address, "node-7", *key)
        assert (code, "no machine joined as 'node-7'" in told) == (2, True)
        code, _, told = ran(capsys, "list", served.address)
        assert (code, "no key: send" in told) == (2, True)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("join", "gateway:8000"), "begins with http:// or https://"),
        (("join", "http://127.0.0.1:9", "--endpoint", "http://127.0.0.1:1/v1"), "needs --model"),
        (("join", "http://127.0.0.1:9", "--name", "No Name"), "no name of a pool"),
        (("join", "http://127.0.0.1:9", "--listen", "nowhere"), "no address to listen on"),
        (("list", "http://127.0.0.1:9"), "cannot be reached"),
        (("start",), "give a RECIPE or --fleet"),
        (("start", "vllm-gaudi"), "there is no recipe 'vllm-gaudi'"),
        (("start", "--fleet", "gone.toml"), "cannot read"),
        (("start", "--fleet", "gone.toml", "--port", "1"), "a fleet file tells all of it"),
    ],
)
def test_mistakes_are_one_line(capsys, args, text):
    code, shown, told = ran(capsys, *args)
    assert code in (1, 2)
    assert shown == ""
    assert text in told
    assert told.count("\n") == 1


def test_a_key_file_holds_a_word(tmp_path: Path, capsys) -> None:
    path = tmp_path / "key"
    for content in (b"", b"two words", b"\xff\xfe", b"x" * 5000, b"a\x00b"):
        path.write_bytes(content)
        code, _, told = ran(capsys, "list", "http://127.0.0.1:9", "--key-file", str(path))
        assert (code, "key" in told, told.count("\n")) == (2, True, 1)
