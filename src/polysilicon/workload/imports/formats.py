"""The formats that can be imported, and how a file's is told."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import entry_points
from itertools import islice
from typing import cast

import numpy as np

from polysilicon.errors import InputError, nearest
from polysilicon.workload.imports.documents import MOST_BYTES
from polysilicon.workload.imports.pieces import DEEPEST
from polysilicon.workload.imports.source import CHUNK_BYTES, Source
from polysilicon.workload.imports.types import Importer

_HERE = "polysilicon.workload.imports"
GROUP = "polysilicon.importers"
"""Entry points by which other packages add formats: name = module."""

# In this order a file is offered to them: the one that asks most of a file comes first.
FORMATS: dict[str, str] = {
    "otlp-polysilicon": f"{_HERE}.otlp_own",
    "otlp-proto": f"{_HERE}.otlp_proto",
    "otlp-json": f"{_HERE}.otlp_json",
    "spans": f"{_HERE}.span_tables",
    "langfuse": f"{_HERE}.langfuse",
    "atif": f"{_HERE}.atif",
    "swe-agent": f"{_HERE}.swe_agent",
    "vllm-bench": f"{_HERE}.vllm_bench",
    "sglang-bench": f"{_HERE}.sglang_bench",
    "mooncake": f"{_HERE}.mooncake",
    "burstgpt": f"{_HERE}.burstgpt",
    "azure-llm": f"{_HERE}.azure_llm",
    "coding-sessions": f"{_HERE}.coding_sessions",
    "table": f"{_HERE}.table",
}

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_TABLES = {".csv", ".tsv", ".jsonl", ".parquet"}


def formats() -> dict[str, str]:
    """Return the modules of all formats, those of other packages last."""
    added = {point.name: point.value for point in entry_points(group=GROUP)}
    return {**FORMATS, **{name: module for name, module in added.items() if name not in FORMATS}}


def importer(name: str) -> Importer:
    """Return the importer of a format.

    Raises:
        InputError: there is no such format.
    """
    known = FORMATS if name in FORMATS else formats()  # looking for packages takes milliseconds
    if name not in known:
        mend = nearest(name, known) or f"known: {', '.join(known)}"
        raise InputError(f"unknown format {name!r}", where="--format", mend=mend)
    return cast("Importer", import_module(known[name]))


def detect(source: Source) -> str:
    """Return the format of a file.

    Raises:
        InputError: it is empty, or no format knows it.
    """
    if not source.head.strip():
        raise InputError("the file is empty", where=str(source.path))
    for name in formats():
        if importer(name).recognise(source):
            return name
    mend = f"name its format with --format: {', '.join(formats())}"
    if _TABLES & set(source.path.suffixes):
        mend = "say what its columns are: --format table --column prompt_tokens=COLUMN …"
    what = f"its format is not known{_reason(source)}"
    raise InputError(what, where=str(source.path), mend=mend)


def _reason(source: Source) -> str:
    """Return why nobody can know a file's format, after a colon; empty where that is not known."""
    if _depth(source.head) > DEEPEST:
        return f": JSON is nested deeper than {DEEPEST} brackets"
    try:
        if source.compression:
            most = MOST_BYTES // CHUNK_BYTES
            for _ in islice(source.chunks(), most):
                pass
    except InputError as error:
        return f": {error.what}"
    return ""


def _depth(head: bytes) -> int:
    """Return how deep brackets lie in each other in the bytes that begin a file of JSON."""
    if not head.lstrip().startswith((b"{", b"[")):
        return 0
    bare = np.frombuffer(_STRING.sub(b"", head), dtype=np.uint8)
    steps = np.isin(bare, list(b"{[")).astype(int) - np.isin(bare, list(b"}]")).astype(int)
    return int(np.cumsum(steps).max(initial=0))
