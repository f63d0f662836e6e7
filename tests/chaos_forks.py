"""Processes that are forked from one which has loaded all that they would load again."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

_PATH = "PYTHONPATH"


def context(*more: str) -> ForkServerContext:
    """Return how they are made; the first call starts the process that they are forked from.

    Args:
        more: modules that it loads besides.
    """
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["chaos_warm", "chaos_runs", *more])
    before = os.environ.get(_PATH)
    # It finds modules by nothing else, and passes silently over those that it does not find.
    os.environ[_PATH] = os.pathsep.join(filter(None, (str(Path(__file__).parent), before)))
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[_PATH]
        else:
            os.environ[_PATH] = before
    return found
