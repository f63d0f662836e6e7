"""A seccomp filter: the system calls that sandboxed CPython may not make.

Classic BPF over `struct seccomp_data` (Linux, `include/uapi/linux/seccomp.h`): call number at byte
0, architecture at 4, first argument at 16. Call numbers are those of the kernel's tables
(`arch/x86/entry/syscalls/syscall_64.tbl`, `include/uapi/asm-generic/unistd.h`), which never change.
"""

from __future__ import annotations

import errno
import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x00010000
_X32_CALLS = 0x40000000
_CLONE3 = 435

# Processes, namespaces and mounts; other processes; kernel programs and keys; memory outside
# RLIMIT_AS; sockets. Threads stay allowed (RLIMIT_AS bounds them), and socketpair, for asyncio.
_DENIED_X86_64 = {
    "fork": 57, "vfork": 58, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166,
    "pivot_root": 155, "chroot": 161, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "kexec_load": 246, "bpf": 321, "perf_event_open": 298,
    "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250, "io_uring_setup": 425,
    "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "socket": 41,
}  # fmt: skip
_DENIED_AARCH64 = {
    "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51,
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kexec_load": 104,
    "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218,
    "keyctl": 219, "io_uring_setup": 425, "memfd_create": 279, "memfd_secret": 447, "shmget": 194,
    "socket": 198,
}  # fmt: skip

_MACHINES = {
    "x86_64": (0xC000003E, 56, _DENIED_X86_64),
    "aarch64": (0xC00000B7, 220, _DENIED_AARCH64),
}
"""Name of the machine to audit architecture, number of `clone`, denied calls."""


def known_machine() -> bool:
    """Return whether there is a filter for this machine's architecture."""
    return platform.machine() in _MACHINES


def program(machine: str | None = None) -> bytes:
    """Return the filter as an array of `struct sock_filter`.

    Args:
        machine: as `platform.machine()` says; this one by default.

    Raises:
        KeyError: there is no table for that machine.
    """
    arch, clone, denied = _MACHINES[machine or platform.machine()]
    refuse = _op(_RETURN, _ERRNO | errno.EPERM)
    lines = [_op(_LOAD, 4), _op(_EQUAL, arch, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, 0)]
    lines += [_op(_AT_LEAST, _X32_CALLS, 0, 1), refuse]
    # glibc falls back to clone, whose flags a filter can see, where clone3 does not exist.
    lines += [_op(_EQUAL, _CLONE3, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    for number in denied.values():
        lines += [_op(_EQUAL, number, 0, 1), refuse]
    lines += [_op(_EQUAL, clone, 1, 0), _op(_RETURN, _ALLOW)]
    lines += [_op(_LOAD, 16), _op(_AND, _CLONE_THREAD), _op(_EQUAL, _CLONE_THREAD, 1, 0)]
    lines += [refuse, _op(_RETURN, _ALLOW)]
    return b"".join(lines)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
