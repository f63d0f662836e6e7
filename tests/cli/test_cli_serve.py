from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from polysilicon.cli import main
from polysilicon.gateway.access import read_keys, sha256_of_key
from served_gateway import TOOLS_HERE, endpoint_pool


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["serve", *arguments])
    return int(caught.value.code or 0)


def test_a_key_is_told_once_and_its_hash_is_kept(tmp_path: Path, capsys) -> None:
    path = tmp_path / "keys.toml"
    limits = ["--budget", "2.5", "--period", "day", "--rate", "60", "--pool", "here", "--admin"]
    assert run("keys", "alice", "--file", str(path), *limits, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    (key,) = read_keys(path).key
    assert key.sha256 == sha256_of_key(told["key"])
    assert (key.budget_usd, key.period, key.requests_per_min) == (2.5, "day", 60)
    assert (key.pools, key.admin) == (("here",), True)
    assert told["key"] not in path.read_text()
    assert run("keys", "alice", "--file", str(path)) == 2
    assert "there is a key 'alice'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--host", "0.0.0.0"], "without keys only loopback"),
        (["--tls-cert", "x.pem"], "go together"),
        (["--keys", "nowhere.toml", "--fleet", "fleet.toml"], "nowhere.toml"),
        (["--fleet", "missing.toml"], "missing.toml"),
        (["--fleet", "fleet.toml", "--policy", "policy.toml"], "0 units"),
    ],
)
def test_mistakes_are_told_before_anything_is_served(
    options: list[str], text: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text(TOOLS_HERE + endpoint_pool("http://127.0.0.1:9/v1"))
    Path("policy.toml").write_text('[supply_max]\n"own/box" = 0\n')
    assert run("--port", "0", *options) == 2
    error = capsys.readouterr().err
    assert text.replace("0 units", "allows 0") in error
    assert error.count("\n") == 1


def test_a_library_that_the_engine_lacks_is_told(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['xllamacpp'] = None; from polysilicon.cli import main; "
        "main(['serve', '--folder', 'gateway'])"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: the engine cannot be loaded: ")
    assert ended.stderr.endswith(
        "; install what is missing, such as by `apt-get install libgomp1`\n"
    )
    assert len(ended.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_it_serves_until_sigterm_and_reloads_on_sighup(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(TOOLS_HERE + endpoint_pool("http://127.0.0.1:9/v1"))
    command = [Path(sys.executable).with_name("polysilicon"), "serve", "--port", "0"]
    command += ["--fleet", "fleet.toml", "--folder", "kept"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        lines = iter(child.stderr)
        try:
            line = next(line for line in lines if "serves" in line)
            address = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
            ready = httpx.get(f"{address}/readyz", timeout=60)
            assert ready.json()["status"] == "ready"
            child.send_signal(signal.SIGHUP)
            assert any("reloaded: here, far" in line for line in lines)
        finally:
            child.send_signal(signal.SIGTERM)
            list(lines)
    assert child.returncode == 0
    assert json.loads((tmp_path / "kept/run.json").read_text())["finished"]
