"""Every sandbox passes the same suite."""

from __future__ import annotations

import asyncio
import gc
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest

from polysilicon.errors import InputError, SandboxError
from polysilicon.runtime.sandboxes import available, bubblewrap, inside, open_sandbox, seccomp
from polysilicon.runtime.sandboxes.monty import Monty
from polysilicon.runtime.types import CodeResult, Limits, Sandbox

SMALL = Limits(time_s=0.5, memory_bytes=64 * 2**20, output_bytes=2000)
PATIENT = Limits(time_s=60.0, memory_bytes=SMALL.memory_bytes, output_bytes=SMALL.output_bytes)
"""What is not to be late is not so on a busy machine either."""
NAMES = {"monty", "bwrap", f"python3.{sys.version_info.minor}"}
Run = Callable[..., CodeResult]


@pytest.fixture(params=["monty", "bubblewrap"])
def name(request: pytest.FixtureRequest) -> str:
    reason = available(request.param)
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")
    return str(request.param)


def use(name: str, work: Callable[[Sandbox], Awaitable[Any]]) -> Any:
    """Await `work(sandbox)` and close the sandbox."""

    async def main() -> Any:
        sandbox = open_sandbox(name, 2)
        try:
            return await work(sandbox)
        finally:
            await sandbox.close()

    return asyncio.run(main())


@pytest.fixture
def run(name: str) -> Run:
    def once(code: str, limits: Limits = PATIENT, **inputs: Any) -> CodeResult:
        result = use(name, lambda sandbox: sandbox.run(textwrap.dedent(code), inputs, limits))
        assert isinstance(result, CodeResult)
        return result

    return once


def below(process: psutil.Process | None = None) -> set[str]:
    """Names of the processes below one, zombies left out."""
    names = set()
    for child in (process or psutil.Process()).children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                names.add(child.name())
        except psutil.NoSuchProcess:
            continue
    return names


def sandboxes_end() -> bool:
    """Wait until no sandbox process is left below this one."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if not below() & NAMES:
            return True
        time.sleep(0.02)
    return False


def sandboxed() -> dict[psutil.Process, float]:
    """Return the processes of sandboxes below this one, and the core-seconds that each had."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.name() in NAMES and child.status() != psutil.STATUS_ZOMBIE:
                times = child.cpu_times()
                found[child] = times.user + times.system
    return found


def resting() -> bool:
    """Tell whether all that is left sleeps: monty keeps a worker that was given no code yet."""
    for one in sandboxed():
        with suppress(psutil.NoSuchProcess):
            if one.status() != psutil.STATUS_SLEEPING:
                return False
    return True


async def computing(before: dict[psutil.Process, float], more_s: float = 0.2) -> None:
    """Wait until sandboxes have computed for some time longer than they had before."""
    until_s = time.monotonic() + 60
    while sum(sandboxed().values()) < sum(before.values()) + more_s:
        assert time.monotonic() < until_s
        await asyncio.sleep(0.02)


async def starting(sandbox: Sandbox) -> None:
    """Wait until a sandbox has a process for what it is to run."""

    def there() -> object:
        return sandbox.processes if isinstance(sandbox, Monty) else sandboxed()

    async with asyncio.timeout(60):
        while not there():  # noqa: ASYNC110 - the system tells nobody
            await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_prints_are_collected(run: Run) -> None:
    result = run("for n in range(3):\n    print(n, 'é')")
    assert (result.ok, result.stdout) == (True, "0 é\n1 é\n2 é\n")
    assert result.error is None
    assert result.error_kind is None


def test_usage_is_told(run: Run) -> None:
    result = run("x = 0\nfor n in range(300000):\n    x += n", limits=Limits())
    assert result.ok
    assert result.cpu_s > 0.003
    assert result.startup_s > 0


def test_inputs_are_variables(run: Run) -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": []}}
    assert run("print(value['a'], value['b'], n + 1)", value=value, n=41).stdout == (
        "[1, 2.5, None, True, 'ü'] {'c': []} 42\n"
    )


@pytest.mark.parametrize("bad", ["a b", "", "class", "1x"])
def test_an_input_must_be_a_python_name(run: Run, bad: str) -> None:
    with pytest.raises(InputError, match="no Python name"):
        run("1", **{bad: 1})


def test_monty_gives_the_last_value_and_bubblewrap_none(name: str, run: Run) -> None:
    value = run("x = (1, 'a')\n{'k': x, 's': {2, 1}, 'big': 2 ** 70}").value
    expected = {"k": [1, "a"], "s": [1, 2], "big": hex(2**70)}
    assert value == (expected if name == "monty" else None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("while True: pass", "timeout"),
        ("import time\nwhile True: time.sleep(0.2)", "timeout"),
        ("a = []\nwhile True: a.append('x' * 100000)", "memory"),
        ("a = [0] * 10**9", "memory"),
        ("while True: print('y' * 100)", "output"),
        ("print('y' * 5000)", "output"),
        ("def f(:\n    pass", "syntax"),
        ("x = 1\0", "syntax"),
        ("raise ValueError('no\\nway')", "exception"),
        ("def f(n): return f(n)\nf(1)", "exception"),
        ("missing_name", "exception"),
    ],
)
def test_kinds_of_errors(run: Run, code: str, kind: str) -> None:
    result = run(code, limits=SMALL if kind == "timeout" else PATIENT)
    assert (result.ok, result.error_kind) == (False, kind), result
    assert result.error
    assert "\n" not in result.error


def test_the_last_line_of_the_error(run: Run) -> None:
    assert run("raise ValueError('bad thing')").error == "ValueError: bad thing"
    assert (run("x = 2\nassert x == 3").error or "").startswith("AssertionError: assert ")


def test_output_before_the_limit_is_kept(run: Run) -> None:
    result = run("while True: print('y' * 9)")
    assert result.stdout == ("y" * 9 + "\n") * 200


def test_output_before_a_timeout_is_kept(run: Run) -> None:
    limits = Limits(time_s=2.0)
    result = run("print('begun', flush=True)\nwhile True: pass", limits=limits)
    assert (result.stdout, result.error_kind) == ("begun\n", "timeout")


def test_a_character_cut_at_the_limit_is_left_out(run: Run) -> None:
    assert run("print('é' * 3000)", limits=Limits(output_bytes=1001)).stdout == "é" * 500


@pytest.mark.parametrize(
    "code",
    [
        "import socket\nsocket.create_connection(('127.0.0.1', 80), 1)",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1/')",
    ],
)
def test_no_network(run: Run, code: str) -> None:
    assert run(code).error_kind == "exception"


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/hostname", str(Path.home() / ".bashrc")])
def test_no_files_of_the_machine(run: Run, path: str) -> None:
    result = run("print(open(path).read())", path=path)
    assert (result.error_kind, result.stdout) == ("exception", "")


def test_no_home_folder(run: Run) -> None:
    code = "import os\nprint(os.listdir(path))"
    assert run(code, path=str(Path.home())).error_kind == "exception"


def test_no_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYSILICON_TEST_SECRET", "hush-hush")
    result = run(
        """
        import os
        print(dict(os.environ))
        print(open('/proc/1/environ').read(), open('/proc/self/environ').read())
        """
    )
    assert "hush-hush" not in result.stdout + (result.error or "")


def test_nothing_can_be_written_outside(run: Run, tmp_path: Path) -> None:
    for target in (str(tmp_path / "x"), "/x", "/usr/x", "/dev/shm/x"):
        assert run("open(target, 'w').write('x')", target=target).error_kind == "exception"
    assert list(tmp_path.iterdir()) == []


def test_runs_share_nothing(name: str) -> None:
    async def work(sandbox: Sandbox) -> list[CodeResult]:
        assert (await sandbox.run("kept = 1\nopen_files = []", {}, PATIENT)).ok
        return [await sandbox.run("print(kept)", {}, PATIENT) for _ in range(3)]

    assert {r.error_kind for r in use(name, work)} == {"exception"}


def test_fifty_runs_at_once(name: str) -> None:
    async def work(sandbox: Sandbox) -> list[CodeResult]:
        runs = [sandbox.run("print(n * n)", {"n": n}, PATIENT) for n in range(50)]
        return await asyncio.gather(*runs)

    assert [r.stdout for r in use(name, work)] == [f"{n * n}\n" for n in range(50)]


@pytest.mark.parametrize(
    "code",
    ["while True: pass", "while True: print('x')", "a = []\nwhile True: a.append('x' * 99999)"],
)
def test_a_bad_run_does_not_poison_the_next(name: str, code: str) -> None:
    async def work(sandbox: Sandbox) -> CodeResult:
        bad = [sandbox.run(code, {}, SMALL) for _ in range(4)]
        assert not any(r.ok for r in await asyncio.gather(*bad))
        return await sandbox.run("print('well')", {}, PATIENT)

    assert use(name, work).stdout == "well\n"


@pytest.mark.parametrize("moment", ["starting", "computing"])
def test_a_cancelled_run_ends_with_its_processes(name: str, moment: str) -> None:
    """Whoever waits for its end may take its core and its memory at once."""

    async def work(sandbox: Sandbox) -> CodeResult:
        await sandbox.run("1", {}, PATIENT)
        for _ in range(3):
            before = sandboxed()
            code = "x = [0] * 10_000_000\nwhile True: pass"
            task = asyncio.create_task(sandbox.run(code, {}, Limits(time_s=600)))
            if moment == "computing":
                await computing(before)
            else:
                await starting(sandbox)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not sandboxed() or (name == "monty" and moment == "starting" and resting())
        return await sandbox.run("print('next')", {}, PATIENT)

    assert use(name, work).stdout == "next\n"
    assert sandboxes_end()


def test_a_run_that_waits_can_be_cancelled(name: str) -> None:
    async def work(sandbox: Sandbox) -> CodeResult:
        limits = Limits(time_s=600)
        runs = [sandbox.run("while True: pass", {}, limits) for _ in range(6)]  # two of them begin
        tasks = [asyncio.create_task(run) for run in runs]
        await computing({})
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        return await sandbox.run("print('next')", {}, PATIENT)

    assert use(name, work).stdout == "next\n"


def test_a_worker_that_is_killed_is_an_error_or_a_result_and_is_replaced(name: str) -> None:
    async def work(sandbox: Sandbox) -> tuple[Any, CodeResult]:
        task = asyncio.create_task(sandbox.run("while True: pass", {}, Limits(time_s=600)))
        await computing({})
        for child in sandboxed():
            with suppress(psutil.NoSuchProcess):  # it ended with bwrap
                child.send_signal(signal.SIGKILL)
        [end] = await asyncio.gather(task, return_exceptions=True)
        return end, await sandbox.run("print('next')", {}, PATIENT)

    end, following = use(name, work)
    assert isinstance(end, SandboxError) or end.error_kind == "exception"
    assert following.stdout == "next\n"


def test_nothing_outlives_the_process_that_dies(name: str) -> None:
    """One of monty looks up from its code when its time is over; bwrap's child ends at once."""
    limit_s = 5 if name == "monty" else 600
    host = textwrap.dedent(
        f"""
        import asyncio
        from polysilicon.runtime.sandboxes import open_sandbox
        from polysilicon.runtime.types import Limits
        print("up", flush=True)
        limits = Limits(time_s={limit_s})
        asyncio.run(open_sandbox({name!r}, 1).run("while True: pass", {{}}, limits))
        """
    )
    process = subprocess.Popen([sys.executable, "-c", host], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        watched = psutil.Process(process.pid)
        deadline_s = time.monotonic() + 60
        while not below(watched) & (NAMES - {"bwrap"}):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        children = watched.children(recursive=True)
        assert children
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    for child in alive:
        child.kill()
    assert not alive


def test_a_huge_value_is_refused(name: str, run: Run) -> None:
    result = run("[0] * 100000")
    assert result.error_kind == ("output" if name == "monty" else None)


def test_a_deep_value_is_refused_or_cut(name: str, run: Run) -> None:
    assert run("x = 1\nfor _ in range(200):\n    x = [x]\nx").ok
    result = run("x = 1\nfor _ in range(50000):\n    x = [x]\nx", limits=Limits(time_s=60.0))
    assert result.ok or result.error_kind == "exception"


def test_what_somebody_waits_for_does_not_yield(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    yielded: list[int] = []
    module = import_module(f"polysilicon.runtime.sandboxes.{name}")
    monkeypatch.setattr(module, "yield_to_engine", yielded.append)

    async def main(*, yields: bool) -> None:
        sandbox = open_sandbox(name, 1, yields=yields)
        try:
            assert (await sandbox.run("x = 1", {}, Limits())).ok
        finally:
            await sandbox.close()

    asyncio.run(main(yields=False))
    assert not yielded
    asyncio.run(main(yields=True))
    assert len(yielded) == 1


def test_unknown_sandbox() -> None:
    with pytest.raises(InputError, match="did you mean monty"):
        open_sandbox("montey", 1)
    with pytest.raises(InputError, match="did you mean bubblewrap"):
        available("bubblewarp")


class TestBubblewrap:
    """What only a full CPython needs."""

    @pytest.fixture
    def name(self) -> str:
        reason = available("bubblewrap")
        if reason is not None:
            pytest.skip(reason)
        return "bubblewrap"

    @pytest.mark.parametrize(
        "code",
        [
            "import os\nwhile True: os.fork()",
            "import subprocess\nsubprocess.run(['/usr/bin/env'])",
            "import multiprocessing as m\np = m.Process(target=print)\np.start()",
        ],
    )
    def test_no_processes(self, run: Run, code: str) -> None:
        assert "not permitted" in (run(code, limits=Limits()).error or "")

    def test_threads_are_bounded(self, run: Run) -> None:
        code = """
            import threading, time
            for _ in range(2000):
                threading.Thread(target=time.sleep, args=(20,)).start()
        """
        result = run(code, limits=Limits(memory_bytes=2**30, time_s=60))
        assert "can't start new thread" in (result.error or "")

    def test_asyncio_and_the_library_work(self, run: Run) -> None:
        code = """
            import asyncio, decimal, hashlib, json, re, sqlite3, statistics, string
            print(asyncio.run(asyncio.sleep(0, 'done')), statistics.mean([1, 3]))
        """
        assert run(code, limits=Limits()).stdout == "done 2\n"

    def test_a_small_tmp(self, run: Run) -> None:
        code = """
            import os
            open('/tmp/a', 'w').write('x')
            print(open('/tmp/a').read())
            for n in range(100):
                with open(f'/tmp/{n}', 'wb') as f:
                    f.write(bytes(2**20))
        """
        result = run(code, limits=Limits())
        assert result.stdout == "x\n"
        assert "No space left" in (result.error or "")

    def test_limits_cannot_be_raised(self, run: Run) -> None:
        code = "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))"
        assert run(code).error_kind == "exception"

    def test_sleeping_is_timed(self, run: Run) -> None:
        result = run("import time\ntime.sleep(30)", limits=SMALL)
        assert result.error_kind == "timeout"
        assert result.cpu_s < 0.5

    def test_closing_the_streams_does_not_escape_the_time_limit(self, run: Run) -> None:
        code = "import os\nfor n in range(1, 20):\n    try: os.close(n)\n    except OSError: pass\n"
        assert run(code + "while True: pass", limits=SMALL).error_kind == "timeout"

    @pytest.mark.parametrize(
        ("code", "ok", "error"),
        [
            ("import sys; sys.exit(0)", True, None),
            ("import sys; sys.exit(3)", False, "SystemExit: 3"),
            ("import os; os._exit(0)", True, None),
            ("import os; os._exit(7)", False, "its process ended with status 7"),
            ("import ctypes; ctypes.string_at(0)", False, "Segmentation fault"),
            ("raise KeyboardInterrupt", False, "KeyboardInterrupt"),
            ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", False, "E"),
        ],
    )
    def test_ends(self, run: Run, code: str, ok: bool, error: str | None) -> None:
        result = run(code)
        assert result.ok is ok
        assert (error or "") in (result.error or "")

    def test_a_forged_report_is_no_crash(self, run: Run) -> None:
        code = """
            import os
            for n in range(3, 1000):
                try: os.write(n, b'{{{\\n' * 9)
                except OSError: pass
            os._exit(0)
        """
        assert run(code).error == "it wrote over the sandbox's report"

    def test_a_forged_report_is_no_number_of_bytes(self, run: Run) -> None:
        code = "import os, sys\nos.write(int(sys.argv[1]), b'{\"peak_bytes\":-5}\\n')\nos._exit(0)"
        assert run(code).error == "it wrote over the sandbox's report"

    def test_a_success_has_no_error(self, run: Run) -> None:
        code = 'import os, sys\nos.write(int(sys.argv[1]), b\'{"error":"x"}\\n\')\nos._exit(0)'
        result = run(code)
        assert (result.ok, result.error) == (True, None)

    def test_files_and_threads_are_bounded_where_no_limit_of_the_kernel_does(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bubblewrap, "_FILES", 100)
        monkeypatch.setattr(bubblewrap, "_THREADS", 2)
        files = "for n in range(200): open(f'/tmp/{n}', 'w').close()\nimport time\ntime.sleep(50)"
        limits = Limits(time_s=60.0)
        assert run(files, limits=limits).error == "it made over 100 files"
        code = "import threading, time\nfor _ in range(3):\n    "
        code += "threading.Thread(target=time.sleep, args=(50,)).start()\ntime.sleep(50)"
        assert run(code, limits=limits).error == "it made over 2 threads"

    def test_what_has_left_the_group_is_killed_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As bwrap's child has a moment before it asks to end with bwrap."""
        leaves = "import subprocess; subprocess.run(['sleep', '600'], start_new_session=True)"
        line = [sys.executable, "-c", leaves]
        monkeypatch.setattr(bubblewrap, "command", lambda *_descriptors: line)
        child = bubblewrap._Child(b"", Limits())
        with ThreadPoolExecutor(1) as threads:
            end = threads.submit(child.run)
            while "sleep" not in below():
                time.sleep(0.02)
            child.kill()
            with pytest.raises(SandboxError, match="did not start"):
                end.result(60)

    def test_of_one_that_is_cancelled_while_it_starts_nothing_is_logged(
        self, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(bubblewrap, "command", lambda *_descriptors: ["sleep", "600"])

        async def work(sandbox: Sandbox) -> None:
            task = asyncio.create_task(sandbox.run("1", {}, PATIENT))
            async with asyncio.timeout(60):
                while "sleep" not in below():  # noqa: ASYNC110 - the system tells nobody
                    await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        use(name, work)
        gc.collect()
        assert "never retrieved" not in caplog.text

    def test_memory_is_told(self, run: Run) -> None:
        assert (run("x = b'x' * (30 * 2**20)").memory_bytes or 0) > 30 * 2**20

    def test_x32_and_other_calls_are_refused(self, run: Run) -> None:
        code = """
            import ctypes, errno
            libc = ctypes.CDLL(None, use_errno=True)
            for number in (0x40000000 + 39, 319, 272, 101):
                assert libc.syscall(number, 0, 0, 0) == -1, number
                assert ctypes.get_errno() == errno.EPERM, (number, ctypes.get_errno())
            print('refused')
        """
        assert run(code, limits=Limits()).stdout == "refused\n"

    def test_where_the_interpreter_cannot_start_the_reason_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bubblewrap, "_interpreter", lambda: (Path("/usr"), "no-python"))
        with pytest.raises(SandboxError, match="no-python"):
            use("bubblewrap", lambda sandbox: sandbox.run("1", {}, Limits()))

    def test_where_it_cannot_work_the_reason_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        probe = bubblewrap._missing.__wrapped__
        assert probe() is None
        monkeypatch.setattr(bubblewrap, "_interpreter", lambda: (Path("/usr"), "no-python"))
        assert "no-python" in probe()
        monkeypatch.setattr(bubblewrap.seccomp, "known_machine", lambda: False)
        assert "architecture" in probe()
        monkeypatch.setattr(bubblewrap.shutil, "which", lambda _name: None)
        assert "not installed" in probe()
        monkeypatch.setattr(bubblewrap.sys, "platform", "win32")
        assert "win32" in probe()

    def test_open_sandbox_tells_the_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bubblewrap, "_missing", lambda: "no leave")
        with pytest.raises(InputError, match="no leave; use sandbox monty"):
            open_sandbox("bubblewrap", 1)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_system_call_filter_is_a_program_of_whole_steps(machine: str) -> None:
    program = seccomp.program(machine)
    _check_steps(program)
    assert {seccomp._MACHINES[machine].denied["socket"], 424} <= {
        value for *_, value in struct.iter_unpack("=HBBI", program)
    }


def test_the_filter_against_programs_is_a_program_of_whole_steps() -> None:
    if seccomp.known_machine():
        _check_steps(seccomp.no_programs())


def _check_steps(program: bytes) -> None:
    steps = list(struct.iter_unpack("=HBBI", program))
    for place, (code, if_true, if_false, _value) in enumerate(steps):
        if code in {0x15, 0x35}:
            assert place + 1 + max(if_true, if_false) < len(steps)
    assert steps[-1][0] == 0x06
    assert len(steps) < 4096  # the kernel's bound, BPF_MAXINSNS


def test_an_interpreter_in_usr_gets_all_of_usr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "_interpreter", lambda: (Path("/usr/local"), "python3.11"))
    line = " ".join(bubblewrap.command(7, 8, 9))
    assert "--ro-bind /usr /usr" in line
    assert " /usr/local/bin/python3.11 -I -S" in line
    assert "--setenv LD_LIBRARY_PATH /usr/local/lib" in line


def test_of_an_interpreter_elsewhere_only_its_own_parts_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lib/python3.11/site-packages").mkdir(parents=True)
    monkeypatch.setattr(bubblewrap, "_interpreter", lambda: (tmp_path, "python3.11"))
    line = " ".join(bubblewrap.command(7, 8, 9))
    assert f"--ro-bind {tmp_path}/bin/python3.11 /opt/python/bin/python3.11" in line
    assert f"--ro-bind {tmp_path}/lib /opt/python/lib" in line
    assert f"--ro-bind {tmp_path} " not in line
    assert "--tmpfs /opt/python/lib/python3.11/site-packages --remount-ro" in line


class TestInside:
    """The program that runs inside, its parts that need no sandbox."""

    @pytest.mark.parametrize(
        ("code", "kind", "error"),
        [
            ("x = n + 1", None, None),
            ("def f(:", "syntax", "SyntaxError: "),
            ("(" * 5000, "syntax", ""),
            ("raise SystemExit", None, None),
            ("raise SystemExit(2)", "exception", "SystemExit: 2"),
            ("raise MemoryError", "memory", "MemoryError"),
            ("def f():\n    assert 1 == 2\nf()", "exception", "AssertionError: assert 1 == 2"),
            ("assert 0, 'why'", "exception", "AssertionError: why"),
            ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "exception", "E"),
        ],
    )
    def test_run(self, code: str, kind: str | None, error: str | None) -> None:
        got_kind, got_error = inside._run(code, {"n": 1})
        assert got_kind == kind
        assert (got_error or "").startswith(error or "")

    def test_flush_survives_foreign_streams(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)
        assert inside._flush() is None
