"""How long sandboxes take to start, and a search to answer."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from polysilicon.cost.profile import SandboxStart, SearchSpeed, spread
from polysilicon.runtime.calibration.text import sample_text, words
from polysilicon.runtime.sandboxes import open_sandbox
from polysilicon.runtime.search import build, open_index
from polysilicon.runtime.types import Document, Limits

RUNS = 15
QUERIES = 200
DOCUMENT_LENGTH = 600
QUERY_WORDS = 8
HITS = 5


async def sandbox_start(name: str, workers: int) -> SandboxStart:
    """Run an empty program several times.

    Args:
        name: of the sandbox.
        workers: runs at once, as the runtime has them.

    Raises:
        InputError: there is no such sandbox, or it does not work here.
        SandboxError: it could not start.
    """
    sandbox = open_sandbox(name, workers)
    startups, runs = [], []
    try:
        for _ in range(RUNS + 1):
            begin_s = time.perf_counter()
            result = await sandbox.run("1 + 1", {}, Limits())
            runs.append(time.perf_counter() - begin_s)
            startups.append(result.startup_s)
    finally:
        await sandbox.close()
    return SandboxStart(startup_s=spread(startups[1:]), run_s=spread(runs[1:]), first_s=runs[0])


def search_speed(documents: int) -> SearchSpeed:
    """Build an index of generated documents and query it.

    Args:
        documents: how many.
    """
    rng = random.Random(2)  # noqa: S311 - no secret
    texts = (
        Document(id=str(n), title=" ".join(words(4, rng)), text=sample_text(DOCUMENT_LENGTH, rng))
        for n in range(documents)
    )
    with tempfile.TemporaryDirectory(prefix="polysilicon-") as folder:
        build(Path(folder) / "index", texts)
        index = open_index(Path(folder) / "index")
        times = []
        for _ in range(QUERIES):
            query = " ".join(words(QUERY_WORDS, rng))
            begin_s = time.perf_counter()
            index.search(query, HITS)
            times.append(time.perf_counter() - begin_s)
    return SearchSpeed(query_s=spread(times), documents=documents, words=QUERY_WORDS)
