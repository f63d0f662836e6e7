"""What a process that serves writes into its log on stderr."""

from __future__ import annotations

import logging
import sys

_SILENT = ("uvicorn", "httpx", "httpcore", "mcp")
"""Packages whose lines could hold what callers sent."""


def log_to_stderr() -> None:
    """Write this program's own lines, and of other packages only what they warn of.

    A lower level of the root would show whatever any package says of itself as it is imported.
    """
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("polysilicon").setLevel(logging.INFO)
    for package in _SILENT:
        logging.getLogger(package).setLevel(logging.CRITICAL)
