from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.llamacpp import LlamaCpp


def test_all_that_is_no_adapter_is_refused_alike(local_model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    (tmp_path / "text").write_text("no adapter")
    (tmp_path / "broken").write_bytes(b"GGUF" + b"\0" * 64)
    engine = LlamaCpp(local_model, concurrency=1, context_tokens=64, threads=1)
    told = set()
    for name in ("pipe", "text", "broken", "none", ".", "a\0b"):
        with pytest.raises(EngineError) as caught:
            engine._with(str(tmp_path / name))
        told.add(str(caught.value).replace(str(tmp_path / name), ""))
    assert len(told) == 1
    asyncio.run(engine.close())
