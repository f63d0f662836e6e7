"""Fuzz an importer with atheris: `python tools/fuzz.py otlp_json [FOLDER] [-max_total_time=300]`.

FOLDER gets what the fuzzer learns; files of real shape in it make a better start, and
`tests/golden` has some. What breaks is written to the current folder: keep it as
`tests/golden/fuzz/IMPORTER-what-broke`, where a test replays it. Needs atheris, which the project
does not depend on.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris")

with atheris.instrument_imports(include=["polysilicon.workload.imports"]):
    from polysilicon.workload.imports.run import _sound
    from polysilicon.workload.imports.spans import steps as _steps  # noqa: F401

    IMPORTER = import_module(f"polysilicon.workload.imports.{sys.argv[1]}")

from polysilicon.errors import InputError
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.types import Clock, Options

WHOLE = {"otlp_json", "otlp_proto", "otlp_own", "langfuse"}
"""Formats of which nothing is refused as a whole where bad records are to be skipped."""

_FILE = Path(tempfile.mkdtemp(prefix="polysilicon-fuzz-")) / "trace"


def one_input(content: bytes) -> None:
    """Import some bytes; anything but an `InputError` in one line is a fault."""
    _FILE.write_bytes(content)
    for skip_bad in (False, True):
        IMPORTER.recognise(Source(_FILE))
        findings = Findings(skip_bad=skip_bad)
        try:
            for table in IMPORTER.read(Source(_FILE), Clock(), findings, Options()):
                _sound(table, "trace", findings)
        except InputError as error:
            if len(str(error).splitlines()) != 1 or (skip_bad and sys.argv[1] in WHOLE):
                raise


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input)
    atheris.Fuzz()
