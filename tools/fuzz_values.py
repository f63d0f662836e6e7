"""Fuzz an importer with Hypothesis: `python tools/fuzz_values.py otlp_json 600 FILES...`.

FILES are samples in the importer's format. Each example takes one of them, replaces some of its
values, keys, lines or cells by odd ones, and then some of its bytes: faults behind a sound outside,
which `tools/fuzz.py` seldom finds. It ends after so many seconds; what breaks is printed as small
as Hypothesis can make it: keep it in `tests/golden/fuzz`.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polysilicon.errors import InputError
from polysilicon.workload.checks import find_fault, normalise
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.run import _least, _sound, shifted
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.types import Clock, Options

ROUND = 2000
"""Examples between two looks at the clock."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(["", "0", "-1", "1e400", "NaN", "1770000000000000000", "2026-02-30", "\x00"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=3),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a document."""
    found = [path]
    if isinstance(value, dict):
        inside = list(value.items())
    else:
        inside = list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in inside:
        found += places(inner, (*path, key))
    return found


def with_odd_values(draw: st.DrawFn, document: Any) -> Any:
    """Return a document of which a few values are odd, missing, or twice there."""
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(document)))
        if not path:
            return draw(ODD)
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        change = draw(st.sampled_from(["odd", "gone", "twice"]))
        if change == "odd":
            holder[path[-1]] = copy.deepcopy(draw(ODD))
        elif change == "gone":
            del holder[path[-1]]
        elif isinstance(holder, list):
            holder.append(holder[path[-1]])
    return document


def with_odd_cells(draw: st.DrawFn, text: str) -> str:
    """Return lines of cells of which a few are odd, missing, or twice there."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        cells = lines[at].split(",")
        cell = draw(st.integers(0, len(cells) - 1))
        cells[cell : cell + 1] = [str(one) for one in draw(st.lists(ODD, max_size=2))]
        lines[at] = ",".join(cells)
    return "\n".join(lines) + "\n"


@st.composite
def contents(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Return a sample with odd values, and then odd bytes."""
    content = draw(st.sampled_from(samples))
    try:
        text = content.decode()
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        parts = [json.dumps(with_odd_values(draw, line)) for line in lines[:8]]
        content = "\n".join(parts).encode("utf-8", "surrogatepass")
    except (UnicodeDecodeError, json.JSONDecodeError):
        try:
            whole = json.loads(content)
            content = json.dumps(with_odd_values(draw, whole)).encode("utf-8", "surrogatepass")
        except (UnicodeDecodeError, json.JSONDecodeError):
            if b"," in content and b"\x00" not in content[:64]:
                text = with_odd_cells(draw, content.decode(errors="replace"))
                content = text.encode("utf-8", "surrogatepass")
    made = bytearray(content)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(made)))
        made[at : at + draw(st.integers(0, 30))] = draw(st.binary(max_size=8))
    return bytes(made)


def check(importer: Any, file: Path, content: bytes, *, skip_bad: bool) -> None:
    """Import some bytes; anything but sound rows, or an `InputError` in one line, is a fault."""
    file.write_bytes(content)
    try:
        importer.recognise(Source(file))
        for table in importer.read(Source(file), Clock(), Findings(skip_bad=skip_bad), Options()):
            good = normalise(_sound(table, "trace", Findings(skip_bad=True)), "trace")
            # An import counts from the first moment of all of its files.
            assert find_fault(shifted(good, -_least(good))) is None
    except InputError as error:
        if len(str(error).splitlines()) != 1:
            raise


def main() -> None:
    """Fuzz until the time is over."""
    name, seconds, *paths = sys.argv[1:]
    importer = import_module(f"polysilicon.workload.imports.{name}")
    samples = [Path(path).read_bytes()[:20_000] for path in paths]
    file = Path(tempfile.mkdtemp(prefix="polysilicon-fuzz-")) / "trace"
    examples = 0

    @settings(max_examples=ROUND, deadline=None, database=None, suppress_health_check=HealthCheck)
    @given(contents(samples), st.booleans())
    def fuzz(content: bytes, skip_bad: bool) -> None:  # noqa: FBT001 - Hypothesis gives it
        nonlocal examples
        if time.monotonic() < end_s:
            examples += 1
            check(importer, file, content, skip_bad=skip_bad)

    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        fuzz()
    print(f"{name}: {examples} examples in {seconds} s, nothing broke")


if __name__ == "__main__":
    main()
