"""Post-training to be broken: its engine is scripted, its training and its sandbox are real.

The engine answers by the problem, the seed and the very bytes of the adapter, and is right more
often with each. So the curve of a run says whether each adapter learnt the same answers as in any
other run, to the last bit.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polysilicon.runtime.engines import ENGINES
from polysilicon.runtime.types import ChatRequest, ChatResult, EmbedResult

AGENT, OVERLAPPED = "posttrain", "posttrain, overlapped"
"""The agent by its name, and how a trial of it is called whose phases overlap."""

WAYS = (AGENT, OVERLAPPED)
ROUNDS, PROBLEMS, SAMPLES, HELD_BACK = 3, 6, 4, 6
VERIFIED = ROUNDS * PROBLEMS * SAMPLES + (ROUNDS + 1) * HELD_BACK
"""Answers of a run that are verified, once each."""

_MODEL, _FILE = "tiny.gguf", "problems.jsonl"
_FLEET = '[[pool]]\nname = "local"\noffer = "local"\nmodel = "{model}"\nconcurrency = 4\n'
_AT_FIRST, _MORE = 0.3, 0.2
_LONGEST_S = 0.02


def fleet(folder: Path) -> str:
    """Return a fleet file with a small random model, which is written into a folder.

    Args:
        folder: shared by runs that must become alike, for its path names their steps.
    """
    import tiny_llama  # noqa: PLC0415 - needs gguf

    model, problems = folder / _MODEL, folder / _FILE
    if not problems.exists():
        tiny_llama.write(model)
        problems.write_text("".join(_row(k) for k in range(3 * PROBLEMS)))
    return _FLEET.format(model=model)


def value(folder: Path, way: str) -> dict[str, Any]:
    """Return an input whose files are in a folder, for one of `WAYS`."""
    return {
        "overlap": way == OVERLAPPED,
        "iterations": ROUNDS,
        "problems": PROBLEMS,
        "samples": SAMPLES,
        "at_once": 4,
        "held_back": HELD_BACK,
        "problems_file": str(folder / _FILE),
        "model": str(folder / _MODEL),
        "recipe": {"rank": 4, "epochs": 1, "threads": 1, "precision": "float32"},
    }


def script() -> None:
    """Let the local engine of this process be the scripted one."""
    ENGINES["llama.cpp"] = f"{__name__}:Scripted"


def _row(k: int) -> str:
    told = {
        "prompt": f'def add(x):\n    """Return x + {k}."""\n',
        "entry_point": "add",
        "test": f"def check(candidate):\n    assert candidate(1) == {1 + k}\n",
        "held_back": k % 3 == 0,
    }
    return json.dumps(told) + "\n"


def _adapter(path: str | None) -> tuple[int, str]:
    """Return an adapter's number and what its bytes are told by."""
    if path is None:
        return 0, ""
    return int(Path(path).stem), hashlib.blake2b(Path(path).read_bytes()).hexdigest()


class Scripted:
    """The engine; see the module."""

    name = "llama.cpp"

    def __init__(self, *, path: Path, concurrency: int, **_: Any) -> None:
        self.model, self.concurrency, self.threads = path.stem, concurrency, 1

    async def chat(
        self, request: ChatRequest, on_token: Callable[[str], None] | None = None
    ) -> ChatResult:
        """Answer, rightly by chance."""
        number, digest = _adapter(request.adapter)
        asked = request.messages[-1]["content"]
        rng = random.Random(f"{asked} {request.seed} {digest}")
        knows = rng.random() < _AT_FIRST + _MORE * number
        found = re.search(r"Return (.*)\.", asked)
        await asyncio.sleep(_LONGEST_S * rng.random())
        text = f"return {found[1] if found and knows else None}"
        return ChatResult(text=text, prompt_tokens=40, output_tokens=5)

    async def embed(self, texts: Sequence[str]) -> EmbedResult:
        """Embed nothing: nobody asks."""
        raise NotImplementedError

    async def close(self) -> None:
        """Hold nothing."""
