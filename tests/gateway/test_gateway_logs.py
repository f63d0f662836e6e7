"""The log of what serves has its own lines, and of other packages only what they warn of."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging
from polysilicon.gateway.logs import log_to_stderr
log_to_stderr()
logging.getLogger("numexpr.utils").info("NumExpr defaulting to 2 threads.")
logging.getLogger("numexpr.utils").warning("of others")
logging.getLogger("httpx").error("what a caller sent")
logging.getLogger("polysilicon.pool").info("of ours")
"""


def test_other_packages_say_nothing_of_themselves() -> None:
    command = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert [line.split(" ", 2)[2] for line in told.splitlines()] == ["of others", "of ours"]
