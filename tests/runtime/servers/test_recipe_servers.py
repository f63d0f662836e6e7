"""Engines started by recipes: what they need, how they are called, and that they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from polysilicon import catalog
from polysilicon.catalog.chips.hardware import Hardware, hardware_of
from polysilicon.catalog.fleet import RECIPES, Fleet, OwnPrice, Pool
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime.servers import launch as launching
from polysilicon.runtime.servers.choose import Asked, launch_of, launches_of
from polysilicon.runtime.servers.launch import Launch, free_port, running
from polysilicon.runtime.servers.recipes import program_of, recipe_named, recipes
from system_trees import MACHINE, Tree

ENGINE = """#!{python}
import http.server, json, os, signal, subprocess, sys
if "--bad" in sys.argv:
    sys.exit("CUDA error: no kernel image is available")
print(json.dumps(sys.argv[1:]), os.environ.get("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"), flush=True)
child = subprocess.Popen(["sleep", "600"])
print("child", child.pid, flush=True)
asked = 0
class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global asked
        asked += 1
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        ok = body["max_tokens"] == 1 and body["model"] == "llama-3.1-8b-instruct"
        self.send_response(503 if asked == 1 else 200 if ok else 400)
        self.end_headers()
        self.wfile.write(b'{{"choices": []}}')
    def log_message(self, *args):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Server).serve_forever()
"""
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """A folder with a `vllm` that answers as one would."""
    path = tmp_path / "bin" / "vllm"
    path.parent.mkdir()
    path.write_text(ENGINE.format(python=sys.executable))
    path.chmod(0o755)
    return str(path.parent)


def found(tree: Tree) -> Hardware:
    return hardware_of(catalog.shipped(), tree.root, MACHINE)


def test_recipes_tell_where_they_are_from() -> None:
    assert all(not recipes()[name].family for name in RECIPES.values())
    assert set(recipes()) == {"vllm-nvidia", "vllm-amd", "vllm-neuron", "vllm-tpu", "llama.cpp",
                              "vllm-cpu", "llama-server"}  # fmt: skip
    known = catalog.shipped().processors
    for recipe in recipes().values():
        assert recipe.sources
        assert recipe.takes("host")
        assert recipe.takes("port")
        assert set(recipe.processors) | set(recipe.parts) <= set(known)


@pytest.mark.parametrize(
    ("name", "add", "text"),
    [
        ("vllm-nvidia", lambda t: t, "needs an NVIDIA GPU; run it on a machine that has one"),
        ("vllm-nvidia", lambda t: t.pci("10de:2335:030200"), "NVIDIA H200 SXM 141GB is on the bus"),
        ("vllm-nvidia", lambda t: t.nvidia("NVIDIA L4"), "vllm is not installed; pip install vllm"),
        ("vllm-amd", lambda t: t.kfd((304, 0x74A1, 256)), "/dev/kfd"),
        ("vllm-neuron", lambda t: t.pci("1d0f:7064:088000"), "this machine has AWS Inferentia1"),
        ("vllm-neuron", lambda t: t.pci("1d0f:7364:088000"), "no device file"),
        ("vllm-tpu", lambda t: t.pci("1ae0:0062:ff0000"), "this machine has Google TPU v5p"),
        ("llama-server", lambda t: t, "llama-server is not installed"),
        ("vllm-cpu", lambda t: t, "needs a CPU of x86-avx512 .* this is x86; start llama.cpp"),
    ],
)
def test_what_a_machine_lacks_is_told(tree, tmp_path, name, add, text):
    with pytest.raises(InputError, match=text) as refused:
        launch_of(recipe_named(name), Asked(model="m"), found(add(tree)), str(tmp_path / "no"))
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_options_that_a_recipe_has_not(tree, programs):
    here = found(tree.nvidia("NVIDIA L4", "NVIDIA L4"))
    recipe = recipe_named("vllm-nvidia")
    with pytest.raises(InputError, match="--count 3 is more than the 2 there are"):
        launch_of(recipe, Asked(model="m", count=3), here, programs)
    with pytest.raises(InputError, match="give --model"):
        launch_of(recipe, Asked(), here, programs)
    with pytest.raises(InputError, match="it has no --concurrency"):
        launch_of(recipe_named("llama.cpp"), Asked(concurrency=4), here)
    with pytest.raises(InputError, match="did you mean vllm-nvidia"):
        recipe_named("vllm-nvida")
    riscv = msgspec.structs.replace(here, arch="riscv64")
    with pytest.raises(InputError, match="needs a CPU of x86_64 or aarch64, this is riscv64"):
        launch_of(recipe_named("llama.cpp"), Asked(), riscv)


@pytest.mark.parametrize(
    ("add", "name", "parts"),
    [
        (lambda t: t.nvidia("NVIDIA L4", "NVIDIA L4"), "vllm-nvidia", "2"),
        (lambda t: t.kfd((304, 0x74A1, 1)).put("dev/kfd"), "vllm-amd", "1"),
        (lambda t: t.pci("1d0f:7264:0", "1d0f:7264:0").put("dev/neuron0"), "vllm-neuron", "4"),
        (lambda t: t.pci("1ae0:006f:ff0000").put("dev/vfio/0"), "vllm-tpu", "1"),
    ],
)
def test_arguments_are_a_list_of_words(tree, programs, add, name, parts):
    model = "x; rm -rf {port} $HOME"
    asked = Asked(model=model, name="m", port=8100, concurrency=64, context=8192)
    launch = launch_of(recipe_named(name), asked, found(add(tree)), programs)
    told = dict(zip(launch.command[3::2], launch.command[4::2], strict=True))
    assert list(launch.command[:3]) == [f"{programs}/vllm", "serve", model]
    assert told == {
        "--served-model-name": "m", "--host": "127.0.0.1", "--port": "8100",
        "--tensor-parallel-size": parts, "--max-num-seqs": "64", "--max-model-len": "8192",
    }  # fmt: skip
    assert launch.endpoint == "http://127.0.0.1:8100/v1"


def test_vllm_on_cpus_has_all_cores_and_a_quarter_of_the_memory(tree, programs):
    flags = frozenset({"avx2", "avx512f"})
    here = hardware_of(
        catalog.shipped(), tree.root, msgspec.structs.replace(MACHINE, isa_flags=flags)
    )
    recipe = recipe_named("vllm-cpu")
    with pytest.raises(InputError, match="there is no Python beside .*; install vllm-cpu beside"):
        launch_of(recipe, Asked(model="m"), here, programs)
    python = Path(programs) / "python3"
    python.symlink_to(sys.executable)
    launch = launch_of(recipe, Asked(model="weights", name="m", port=8100), here, programs)
    assert launch.command == (
        str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", "weights",
        "--served-model-name", "m", "--host", "127.0.0.1", "--port", "8100",
        "--dtype", "bfloat16", "--max-num-seqs", "8", "--max-model-len", "4096",
        "--enable-prompt-tokens-details",  # what was cached
        "--enforce-eager",
        "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
    )  # fmt: skip
    cores = ",".join(str(n) for n in sorted(os.sched_getaffinity(0)))
    assert launch.environment == {
        "VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_KVCACHE_SPACE": "8",
        "VLLM_NO_USAGE_STATS": "1",
    }  # fmt: skip


def test_the_python_of_a_program_that_is_a_link_is_beside_what_it_links_to(tmp_path, programs):
    python = Path(programs) / "python3"
    python.symlink_to(sys.executable)
    links = tmp_path / "links"
    links.mkdir()
    (links / "vllm").symlink_to(Path(programs) / "vllm")
    (links / "python3").symlink_to("/bin/sh")  # another one, as in ~/.local/bin
    recipe = recipe_named("vllm-cpu")
    assert program_of(recipe, str(links)) == (str(python), "-m", recipe.module)


def test_what_is_set_already_is_not_set_by_a_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "1")
    command = ("/bin/sh", "-c", "echo $MINE $ITS; exit 3")
    launch = Launch(title="T", command=command, environment={"MINE": "2", "ITS": "3"}, port=0,
                    model="m", log=tmp_path / "log", startup_s=20.0)  # fmt: skip
    with (
        pytest.raises(PolysiliconError, match="ended with code 3; .* ends: 1 3$"),
        running(launch, lambda _: None),
    ):
        pass


def test_a_pool_may_name_its_recipe(tree, programs):
    (Path(programs) / "python3").symlink_to(sys.executable)
    flags = frozenset({"avx512f"})
    here = hardware_of(
        catalog.shipped(), tree.root, msgspec.structs.replace(MACHINE, isa_flags=flags)
    )
    pool = Pool(name="v", engine="openai", endpoint="http://127.0.0.1:8123/v1", recipe="vllm-cpu",
                model="smollm2-135m-instruct", concurrency=32, serves=("llm:*",))  # fmt: skip
    (launch,), _ = launches_of(Fleet(pool=(pool,)), here, catalog.shipped(), programs)
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in launch.command
    assert launch.model == "smollm2-135m-instruct"
    assert launch.command[launch.command.index("--max-num-seqs") + 1] == "32"
    wrong = msgspec.structs.replace(pool, recipe="vllm-cup")
    with pytest.raises(InputError, match="did you mean vllm-cpu"):
        launches_of(Fleet(pool=(wrong,)), here, catalog.shipped(), programs)


def test_pools_of_a_fleet_on_this_machine_are_started_and_stopped(tree, programs, tmp_path):
    port = free_port()
    pools = (
        Pool(name="here"),
        Pool(name="far", engine="openai", endpoint="http://10.0.0.9:8000/v1", model="m"),
        Pool(name="gpu", offer="aws/g6.xlarge", engine="openai", model="llama-3.1-8b-instruct",
             endpoint=f"http://127.0.0.1:{port}/v1", concurrency=4, price=OwnPrice(usd_per_hour=1)),
    )  # fmt: skip
    here = found(tree.nvidia("NVIDIA L4"))
    (launch,), others = launches_of(Fleet(pool=pools), here, catalog.shipped(), programs)
    assert launch.command[2] == MODEL
    assert [text[:16] for text in others] == ["here: its engine", "far: http://10.0"]
    launch = msgspec.structs.replace(launch, log=tmp_path / "logs" / "engine.log")
    with running(launch, lambda _: None) as server:
        assert server.process.poll() is None
        with (
            pytest.raises(InputError, match="another program listens there"),
            running(launch, print),
        ):
            pass
        child = int(launch.log.read_text().split("child ")[1])
        assert psutil.pid_exists(child)
    assert not alive(server.process.pid)
    await_gone(child)
    assert f'"{MODEL}", "--served-model-name", "llama-3.1-8b-instruct"' in launch.log.read_text()
    with pytest.raises(InputError, match="no pool is started here"):
        launches_of(Fleet(pool=pools[:2]), here, catalog.shipped())


def test_a_server_that_ends_or_refuses_is_told(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "_LOOK_S", 0.02)
    log = tmp_path / "log"
    port = free_port()
    command = (f"{programs}/vllm", "--port", str(port))
    launch = Launch(title="T", command=(*command, "--bad"), environment={}, port=port, model="m",
                    log=log, startup_s=120.0)  # fmt: skip
    with (
        pytest.raises(PolysiliconError, match="ended with code 1; .* no kernel image"),
        running(launch, print),
    ):
        pass
    wrong = msgspec.structs.replace(launch, command=command)
    refusal = "refuses a request for one token: HTTP 400"
    with pytest.raises(PolysiliconError, match=refusal), running(wrong, print):
        pass
    sleeping = msgspec.structs.replace(launch, command=("/bin/sleep", "60"), startup_s=0.1)
    with pytest.raises(PolysiliconError, match="no token within 0.1 s"), running(sleeping, print):
        pass
    gone = msgspec.structs.replace(launch, command=(str(tmp_path / "none"),))
    with pytest.raises((InputError, PolysiliconError)), running(gone, print):
        pass


def test_llama_cpp_serves_for_real_until_ctrl_c(local_model, tmp_path):
    command = [sys.executable, "-m", "polysilicon", "pool", "start", "llama.cpp", "--json",
               "--model", str(local_model)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as starter:
        (server,) = msgspec.json.decode(lines_until(starter, b"}"))["servers"]
        assert server["model"] == "smollm2-135m-instruct"
        assert server["endpoint"].startswith("http://127.0.0.1:")
        assert alive(server["pid"])
        starter.send_signal(signal.SIGINT)
    assert starter.returncode == 130
    assert not alive(server["pid"])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv")
def test_a_server_ends_with_a_starter_that_is_killed(programs, tmp_path):
    port = free_port()
    command = [f"{programs}/vllm", "--port", str(port)]
    code = (
        "from pathlib import Path; from polysilicon.runtime.servers.launch import Launch, running\n"
        f"launch = Launch(title='T', command={command}, environment={{}}, port={port}, "
        f"model='llama-3.1-8b-instruct', log=Path({str(tmp_path / 'log')!r}), startup_s=60)\n"
        "with running(launch, lambda _: None) as server:\n"
        "    print(server.process.pid, flush=True); input()\n"
    )
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **given) as starter:
        pid = int(lines_until(starter, b""))
        assert alive(pid)
        starter.kill()
    await_gone(pid)
    # Nobody is left to end its children; a server that is told to end does that itself.
    os.kill(int((tmp_path / "log").read_text().split("child ")[1]), signal.SIGKILL)


def await_gone(pid: int) -> None:
    """Wait until a process has ended: a signal takes its time on a busy machine."""
    until_s = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < until_s
        time.sleep(0.02)


def lines_until(process, last: bytes) -> bytes:
    """Return what a process prints, up to a line; any where that is blank."""
    told = process.stdout.readline()
    while last and told.splitlines()[-1] != last:
        told += process.stdout.readline()
    return told


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
