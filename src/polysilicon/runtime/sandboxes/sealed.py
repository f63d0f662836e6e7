"""Files in memory that nobody can change, for what a sandbox is given."""

from __future__ import annotations

import fcntl
import os


def sealed(data: bytes) -> int:
    """Return a descriptor of a file in memory that holds `data` and that nobody can change."""
    descriptor = os.memfd_create("polysilicon", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
