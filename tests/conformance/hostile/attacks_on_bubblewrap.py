"""Attacks on the sandbox `bubblewrap`: on the kernel, and on the reporter beside the code."""

from __future__ import annotations

from attack import Attack

_LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_REPORT = "import os, sys\nreport = int(sys.argv[1])\n"


def _denied(*lines: str) -> str:
    """Return code that runs each line alone and sees a breach where one is not an error."""
    parts = ["import fcntl, os, resource, signal, socket, sys, time\n" + _LIBC]
    parts.append("def write(path, text):\n    os.write(os.open(path, os.O_WRONLY), text)\n")
    parts += [
        f"try:\n    {line}\n    print('BREACH', {line!r})\nexcept OSError:\n    pass"
        for line in lines
    ]
    return "\n".join(parts)


_STDLIB = "open(os.__file__)"

ATTACKS = [
    Attack(
        "kernel",
        "denied_calls",
        "ok",
        _LIBC + "for name, number in calls.items():\n"
        "    if libc.syscall(number, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() not in (1, 38):\n"
        "        print('BREACH', name, ctypes.get_errno())",
    ),
    Attack(
        "kernel",
        "calls_that_came_later",
        "ok",
        _LIBC + "for number in range(424, 600):\n"
        "    if libc.syscall(number, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 38:\n"
        "        print('BREACH', number, ctypes.get_errno())",
    ),
    Attack(
        "kernel",
        "namespaces_by_clone",
        "ok",
        _LIBC + "import platform\n"
        "number = {'x86_64': 56, 'aarch64': 220}[platform.machine()]\n"
        "for flag in (1 << 28, 1 << 17, 1 << 30, 1 << 29, 1 << 26, 1 << 27, 17, 0x4111):\n"
        "    if libc.syscall(number, flag, 0, 0, 0, 0) != -1:\n"
        "        print('BREACH', flag)",
    ),
    Attack(
        "kernel",
        "privileges",
        "ok",
        _denied(
            "os.setuid(0)",
            "os.setresgid(0, 0, 0)",
            "os.setgroups([0])",
            "os.nice(-20)",
            "os.setpriority(os.PRIO_PROCESS, 0, -1)",
            "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
            "os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0))",
            "os.mknod('/tmp/memory', 0o20666, os.makedev(1, 1))",
            "time.clock_settime(time.CLOCK_REALTIME, time.time())",
            "socket.sethostname('x')",
            "os.chroot('/tmp')",
            "write('/proc/self/oom_score_adj', b'-999')",
        ),
    ),
    Attack(
        "kernel",
        "settings",
        "ok",
        _denied(
            # Nothing is written but what is there or is the namespace's own.
            "open('/proc/sysrq-trigger', 'w')",
            "open('/proc/sys/kernel/core_pattern', 'w')",
            "open('/proc/sys/vm/drop_caches', 'w')",
            "write('/proc/sys/kernel/hostname', b'x')",
            "write('/proc/sys/kernel/msgmni', b'64000')",
            "write('/proc/sys/net/ipv4/ip_forward', b'1')",
            "open('/proc/sys/user/max_user_namespaces', 'w')",
            "write('/proc/self/uid_map', b'0 0 1')",
            "write('/proc/self/comm', b'x')",
            "open('/sys/fs/cgroup/cgroup.procs', 'w')",
        ),
    ),
    Attack(
        "kernel",
        "limits",
        "ok",
        "import resource\n"
        "for what in range(16):\n"
        "    hard = resource.getrlimit(what)[1]\n"
        "    if hard != -1:\n"
        "        try:\n"
        "            resource.setrlimit(what, (hard + 1, hard + 1))\n"
        "            print('BREACH', what)\n"
        "        except (OSError, ValueError):\n"
        "            pass",
    ),
    Attack(
        "kernel",
        "foreign_architecture",
        "ok exception",
        # int 0x80 with getpid of i386, which the filter must not take for another call.
        "import ctypes, mmap, platform\n"
        "if platform.machine() == 'x86_64':\n"
        "    page = mmap.mmap(-1, 4096, prot=7)\n"
        "    page.write(bytes.fromhex('b814000000cd80c3'))\n"
        "    at = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "    print('BREACH', ctypes.CFUNCTYPE(ctypes.c_int)(at)())",
    ),
    Attack(
        "shared",
        "null_device",
        "ok",
        _denied(
            "os.chmod('/dev/null', 0o666)",
            "os.chmod('/dev/full', 0o666)",
            "os.chmod(open('/dev/full').fileno(), 0o666)",
            "os.chown('/dev/full', 65534, 65534)",
            "os.utime('/dev/full')",
            "os.utime('/dev/full', (1, 1))",
            "os.setxattr('/dev/full', 'user.x', b'x')",
            "os.remove('/dev/full')",
            "os.rename('/dev/full', '/dev/empty')",
        ),
    ),
    Attack(
        "shared",
        "library_files",
        "ok",
        _denied(
            f"fcntl.flock({_STDLIB}, fcntl.LOCK_EX | fcntl.LOCK_NB)",
            f"fcntl.fcntl({_STDLIB}, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
            "fcntl.fcntl(os.open('/usr/lib', 0), fcntl.F_NOTIFY, fcntl.DN_ACCESS)",
            "open(os.__file__, 'a')",
            "os.utime(os.__file__)",
            "os.chmod(os.__file__, 0o644)",
            "os.remove(os.__file__)",
            "open(sys.executable, 'r+b')",
        ),
    ),
    Attack(
        "shared",
        "watching_files",
        "ok",
        _LIBC + "if libc.inotify_init1(0) >= 0:\n    print('BREACH')",
    ),
    Attack(
        "shared",
        "packages_of_the_host",
        "ok",
        "import glob\n"
        "for root in ('/opt/python', '/usr', '/usr/local'):\n"
        "    for found in glob.glob(root + '/lib*/python*/*-packages/*'):\n"
        "        print('BREACH', found)",
    ),
    Attack(
        "shared",
        "other_parts_of_the_disk",
        "ok",
        "import os\n"
        "for name in ('/etc', '/home', '/root', '/var', '/run', '/sys', '/boot', '/mnt', home):\n"
        "    if os.path.exists(name):\n"
        "        print('BREACH', name)\n"
        "if os.path.exists('/opt/python') and set(os.listdir('/opt/python')) - {'bin', 'lib'}:\n"
        "    print('BREACH', os.listdir('/opt/python'))",
    ),
    Attack(
        "shared",
        "descriptors",
        "ok",
        _REPORT + "for n in range(1024):\n"
        "    try:\n"
        "        target = os.readlink(f'/proc/self/fd/{n}')\n"
        "    except OSError:\n"
        "        continue\n"
        "    if n != report and not target.startswith(('/dev/null', 'pipe:')):\n"
        "        print('BREACH', n, target)",
    ),
    Attack(
        "shared",
        "terminal",
        "ok",
        _denied(
            "open('/dev/tty')",
            "fcntl.ioctl(0, 0x5412, b'x')",
            "fcntl.ioctl(1, 0x5412, b'x')",
            "open('/dev/console', 'w')",
        ),
    ),
    Attack(
        "kernel_memory",
        "semaphores",
        "ok",
        _LIBC
        + "for _ in range(8):\n    if libc.semget(0, 32000, 0o600) != -1:\n        print('BREACH')",
    ),
    Attack(
        "kernel_memory",
        "message_queues",
        "ok",
        _LIBC + "for _ in range(8):\n"
        "    if libc.msgget(0, 0o600) != -1 or libc.mq_open(b'/x', 0o102, 0o600, None) != -1:\n"
        "        print('BREACH')",
    ),
    Attack(
        "kernel_memory",
        "shared_memory",
        "ok",
        "from multiprocessing import shared_memory\n"
        "try:\n"
        "    shared_memory.SharedMemory(create=True, size=2**20)\n"
        "    print('BREACH')\n"
        "except OSError:\n"
        "    pass\n" + _LIBC + "if libc.shmget(0, 2**20, 0o1600) != -1:\n    print('BREACH')",
    ),
    Attack(
        "kernel_memory",
        "memory_file",
        "exception",
        "import os\nos.memfd_create('x')\nprint('BREACH')",
    ),
    Attack(
        "kernel_memory",
        "big_pipes",
        "ok",
        "import fcntl, os\n"
        "try:\n"
        "    fcntl.fcntl(os.pipe()[0], 1031, 2**20)\n"
        "    print('BREACH')\n"
        "except OSError:\n"
        "    pass",
    ),
    Attack(
        "kernel_memory",
        "many_pipes",
        "exception",
        "import os\n"
        "held = 0\n"
        "while True:\n"
        "    end = os.pipe()[1]\n"
        "    os.set_blocking(end, False)\n"
        "    held += os.write(end, bytes(2**20))\n"
        "    if held > 8 * 2**20:\n"
        "        print('BREACH', held)\n"
        "        break",
    ),
    Attack(
        "kernel_memory",
        "messages_in_sockets",
        "ok exception",
        "import socket\n"
        "pairs, held = [], 0\n"
        "try:\n"
        "    while held < 2**26:\n"
        "        pairs.append(socket.socketpair())\n"
        "        pairs[-1][0].setblocking(False)\n"
        "        pairs[-1][0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**24)\n"
        "        while held < 2**26:\n"
        "            try:\n"
        "                held += pairs[-1][0].send(bytes(2**16))\n"
        "            except BlockingIOError:\n"
        "                break\n"
        "    print('BREACH', held)\n"
        "except OSError:\n"
        "    pass",
    ),
    Attack(
        "disk",
        "big_file",
        "exception",
        "with open('/tmp/a', 'wb') as f:\n"
        "    for _ in range(64):\n"
        "        f.write(bytes(2**20))\n"
        "print('BREACH')",
    ),
    Attack(
        "disk",
        "many_files_that_fill",
        "exception",
        "for n in range(200):\n    open(f'/tmp/{n}', 'wb').write(bytes(2**18))\nprint('BREACH')",
    ),
    Attack(
        "disk",
        "sparse_file",
        "exception",
        "import os\nos.truncate(open('/tmp/a', 'wb').fileno(), 2**30)",
    ),
    Attack(
        "disk",
        "empty_files",
        "memory",
        "import os\n"
        "for n in range(300000):\n"
        "    os.close(os.open(f'/tmp/{n}', os.O_CREAT | os.O_WRONLY))\n"
        "print('BREACH')",
    ),
    Attack(
        "disk",
        "links",
        "memory",
        "import os\n"
        "open('/tmp/a', 'w')\n"
        "for n in range(150000):\n"
        "    os.link('/tmp/a', f'/tmp/l{n}')\n"
        "    os.symlink('/', f'/tmp/s{n}')\n"
        "print('BREACH')",
    ),
    Attack(
        "disk",
        "nested_folders",
        "memory timeout exception",
        "import os\nfor n in range(100000):\n    os.mkdir('a')\n    os.chdir('a')\nprint('BREACH')",
    ),
    Attack(
        "disk",
        "descriptors_without_end",
        "exception",
        "held = [open('/tmp/a', 'w') for _ in range(2000)]\nprint('BREACH')",
    ),
    Attack(
        "disk",
        "fifo_that_nobody_writes",
        "timeout",
        "import os\nos.mkfifo('/tmp/f')\nopen('/tmp/f').read()",
    ),
    Attack(
        "processes",
        "vfork_and_clone",
        "ok",
        _LIBC
        + "for call in (libc.fork, libc.vfork):\n    if call() != -1:\n        print('BREACH')",
    ),
    Attack(
        "processes",
        "exec_of_the_loader",
        "ok",
        "import glob, os\n"
        "for loader in glob.glob('/lib*/ld-linux*') + glob.glob('/bin/*')[:3]:\n"
        "    try:\n"
        "        os.execv(loader, [loader, '--version'])\n"
        "    except OSError:\n"
        "        pass",
    ),
    # A thread that execs takes the process over, and has no signal for the parent's death.
    Attack(
        "processes",
        "exec_in_a_thread",
        "timeout",
        "import os, sys, threading, time\n"
        "code = 'import time; print(\"BREACH\", flush=True); time.sleep(4)'\n"
        "go = lambda: os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', code])\n"
        "threading.Thread(target=go).start()\n"
        "time.sleep(4)",
    ),
    Attack(
        "processes",
        "written_program",
        "exception",
        "import os, shutil, sys\n"
        "end = os.open('/tmp/python', os.O_CREAT | os.O_WRONLY, 0o777)\n"
        "os.write(end, open(sys.executable, 'rb').read(2**20))\n"
        "os.close(end)\n"
        "os.execv('/tmp/python', ['/tmp/python', '-c', 'print(\"BREACH\")'])",
    ),
    Attack(
        "processes",
        "thread_bomb",
        "exception memory timeout",
        "import threading, time\n"
        "threading.stack_size(32768)\n"
        "for n in range(600):\n"
        "    threading.Thread(target=time.sleep, args=(3,)).start()\n"
        "time.sleep(0.3)\n"
        "print('BREACH')",
    ),
    Attack(
        "processes",
        "threads_that_outlive",
        "ok",
        "import threading, time\n"
        "def go():\n"
        "    time.sleep(0.2)\n"
        "    print('BREACH', flush=True)\n"
        "threading.Thread(target=go).start()",
    ),
    Attack(
        "processes",
        "threads_that_spin",
        "timeout",
        "import threading\n"
        "def go():\n"
        "    while True:\n"
        "        pass\n"
        "for _ in range(4):\n"
        "    threading.Thread(target=go).start()\n"
        "go()",
    ),
    Attack(
        "processes",
        "work_at_exit",
        "ok",
        "import atexit, time\natexit.register(lambda: (time.sleep(9), print('BREACH')))",
    ),
    Attack(
        "signals",
        "own_init",
        "timeout",
        "import os, signal\n"
        "for n in range(1, 65):\n"
        "    try:\n"
        "        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n"
        "        pass\n"
        "for n in (signal.SIGKILL, signal.SIGSTOP):\n"
        "    os.kill(1, n)\n"
        "while True:\n"
        "    pass",
    ),
    Attack(
        "signals",
        "blocked",
        "timeout",
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True:\n    pass",
    ),
    # The death signal comes with the parent's end, by which a late run is killed.
    Attack(
        "signals",
        "no_death_signal",
        "timeout",
        "import time\n" + _LIBC + "if libc.prctl(1, 0, 0, 0, 0) == 0:\n"
        "    print('BREACH', flush=True)\n"
        "for _ in range(40):\n"
        "    time.sleep(0.1)",
    ),
    Attack(
        "signals",
        "traced",
        "ok",
        _LIBC + "for request in (0, 16, 0x4206):\n"
        "    if libc.ptrace(request, 1, 0, 0) != -1:\n"
        "        print('BREACH')",
    ),
    Attack(
        "forging",
        "success",
        "exception",
        _REPORT + 'os.write(report, b\'{"kind":null,"peak_bytes":-5}\\n\')\nos._exit(1)',
    ),
    Attack(
        "forging",
        "huge_numbers",
        "exception",
        _REPORT + "os.write(report, b'{\"peak_bytes\":' + b'9' * 40 + b'}\\n')\nos._exit(1)",
    ),
    Attack(
        "forging",
        "terminal_controls",
        "exception",
        _REPORT + 'os.write(report, b\'{"kind":"exception","error":"\\\\u001b[2J\\\\u009b"}\\n\')\n'
        "os._exit(0)",
    ),
    Attack(
        "forging",
        "lone_surrogate",
        "exception",
        _REPORT + 'os.write(report, b\'{"kind":"exception","error":"\\\\ud800"}\\n\')\nos._exit(0)',
    ),
    Attack(
        "forging",
        "other_kind",
        "exception",
        _REPORT + 'os.write(report, b\'{"kind":"root"}\\n\')\nos._exit(0)',
    ),
    Attack(
        "forging",
        "deep_report",
        "exception",
        _REPORT + "os.write(report, b'[' * 60000 + b'\\n')\nos._exit(0)",
    ),
    Attack(
        "forging",
        "ready_again",
        "timeout",
        _REPORT + 'while True:\n    os.write(report, b\'{"ready":true}\\n{"child-pid": 1}\\n\')',
    ),
    Attack(
        "forging",
        "flood_of_reports",
        "timeout",
        _REPORT + "import threading\n"
        "def go():\n"
        "    data = b'x' * 2**16\n"
        "    while True:\n"
        "        os.write(report, data)\n"
        "threading.stack_size(65536)\n"
        "for _ in range(8):\n"
        "    threading.Thread(target=go).start()\n"
        "go()",
    ),
    Attack(
        "forging", "report_closed", "timeout", _REPORT + "os.close(report)\nwhile True:\n    pass"
    ),
    Attack(
        "forging",
        "report_read_back",
        "timeout",
        _REPORT + "out = os.open('/proc/self/fd/1', os.O_RDONLY)\n"
        "try:\n"
        "    end = os.open(f'/proc/self/fd/{report}', os.O_RDONLY)\n"
        "except OSError:\n"
        "    end = report\n"
        "os.read(end, 2)\n"
        "print('BREACH', 'read a report')",
    ),
    Attack(
        "forging",
        "streams_swapped",
        "output timeout exception",
        _REPORT + "os.dup2(1, report)\nwhile True:\n    os.write(report, b'y' * 100)",
    ),
    Attack(
        "forging",
        "reporter_replaced",
        "exception timeout",
        _REPORT + "import __main__\n"
        "os.write = os._exit = lambda *a: None\n"
        "for name in list(vars(__main__)):\n"
        "    if not name.startswith('__'):\n"
        "        setattr(__main__, name, None)\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    print(sorted(frame.f_globals)[:3])\n"
        "    frame = frame.f_back",
    ),
    Attack("forging", "exit_status", "exception", "import os\nos._exit(7)"),
    Attack("forging", "killed_like_late", "exception", "import os\nos._exit(137)"),
    Attack("forging", "fault", "exception", "import ctypes\nctypes.string_at(0)"),
    Attack("forging", "abort", "exception", "import os\nos.abort()"),
    Attack("forging", "closed_streams", "ok", "import os\nfor n in (0, 1, 2):\n    os.close(n)"),
    Attack(
        "forging",
        "broken_streams",
        "ok",
        "import sys\n"
        "class Stream:\n"
        "    def flush(self):\n"
        "        raise BaseException\n"
        "    def write(self, text):\n"
        "        return len(text)\n"
        "sys.stdout = sys.stderr = Stream()",
    ),
    Attack(
        "forging",
        "error_that_bites",
        "exception",
        "class E(BaseException):\n"
        "    def __str__(self):\n"
        "        raise SystemExit(0)\n"
        "    __repr__ = __str__\n"
        "raise E",
    ),
    Attack(
        "forging",
        "error_that_never_ends",
        "timeout",
        "class E(Exception):\n"
        "    def __str__(self):\n"
        "        while True:\n"
        "            pass\n"
        "raise E",
    ),
    Attack(
        "memory",
        "maps",
        "exception memory",
        "import mmap\nheld = [mmap.mmap(-1, 2**25) for _ in range(12)]\nprint('BREACH')",
    ),
    Attack(
        "memory",
        "soft_limit_raised",
        "memory exception",
        "import resource\n"
        "hard = resource.getrlimit(resource.RLIMIT_AS)[1]\n"
        "resource.setrlimit(resource.RLIMIT_AS, (hard, hard))\n"
        "a = bytearray(100 * 2**20)\nprint('BREACH')",
    ),
    Attack(
        "memory",
        "decompression",
        "memory",
        "import zlib\n"
        "data = zlib.compress(bytes(2**20), 9) \n"
        "held = [zlib.decompress(data) for _ in range(300)]\nprint('BREACH')",
    ),
    Attack(
        "memory",
        "threads_with_stacks",
        "exception memory",
        "import threading, time\n"
        "threading.stack_size(2**25)\n"
        "for _ in range(12):\n"
        "    threading.Thread(target=time.sleep, args=(2,)).start()\nprint('BREACH')",
    ),
    Attack(
        "time",
        "no_check_for_signals",
        "timeout",
        "x = ('a',)\nfor _ in range(60):\n    x = (x, x)\nhash(x)",
    ),
    Attack(
        "output",
        "raw_descriptors",
        "output",
        "import os\nwhile True:\n    os.write(2, b'y' * 100)",
    ),
    Attack(
        "output",
        "not_text",
        "ok",
        "import os\nos.write(1, bytes(range(256)) + b'\\xff\\xfe\\xed\\xa0\\x80')",
    ),
    Attack(
        "state",
        "left_in_tmp",
        "ok",
        "open('/tmp/' + token, 'w').write('BREACH'[:0])\nopen('/tmp/json.py', 'w').write('x')",
    ),
    Attack(
        "introspection",
        "collector",
        "ok",
        "import gc, sys\n"
        "for thing in gc.get_objects():\n"
        "    if isinstance(thing, dict) and 'POLYSILICON_TEST_SECRET' in thing:\n"
        "        print(thing['POLYSILICON_TEST_SECRET'])\n"
        "print(sys.argv, sys.path)",
    ),
    Attack(
        "introspection",
        "code_objects",
        "ok exception",
        "f = lambda: 0\nf.__code__ = f.__code__.replace(co_code=b'\\xff' * 64)\nf()",
    ),
]
