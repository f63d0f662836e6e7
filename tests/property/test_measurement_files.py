from __future__ import annotations

import gzip
from collections import Counter

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polysilicon.catalog.imports.vms import gpu_memory_gib, read_vms
from polysilicon.catalog.measurements import (
    COLUMNS,
    METRICS,
    Measurement,
    read_measurements,
    write_measurements,
)
from polysilicon.errors import InputError

FILES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
names = words.map(lambda text: " ".join(text.split()))
counts = st.none() | st.integers(1, 10**9)
figures = st.none() | st.floats(1e-9, 1e12, exclude_min=False)


@st.composite
def measurements(draw):
    values = {
        "source": draw(names),
        "model": draw(names.filter(bool)),
        "processor": draw(names.filter(bool)),
        "count": draw(counts),
        "tp": draw(counts),
        "ep": draw(counts),
        "concurrency": draw(figures),
        "prompt_tokens": draw(st.none() | st.integers(0, 10**9)),
        "output_tokens": draw(st.none() | st.integers(1, 10**9)),
    } | {metric: draw(figures) for metric in METRICS}
    if all(values[metric] is None for metric in METRICS):
        values["tpot_ms"] = 1.0
    return Measurement(row=0, **values)


def read_or_refuse(read):
    """Return what `read` returns, or nothing where it refuses in one line."""
    try:
        return read()
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused
    return ()


@FILES
@given(st.lists(measurements(), max_size=5), st.sampled_from(["m.csv", "m.csv.gz", "m.parquet"]))
def test_what_is_written_is_read_again(tmp_path, rows, name):
    write_measurements(rows, tmp_path / name)
    found = [msgspec.structs.replace(r, row=0) for r in read_measurements(tmp_path / name)]
    assert found == rows


cells = st.one_of(
    st.sampled_from(["", "nan", "-inf", "0", "-1", "1e999", "700.0", "9999", "1_0", "٣", "0x1f"]),
    st.floats().map(str),
    words,
)


@FILES
@given(st.lists(st.lists(cells, min_size=1, max_size=len(COLUMNS) + 1), max_size=6))
def test_rows_are_read_or_refused_in_one_line(tmp_path, rows):
    lines = [",".join(COLUMNS), *(",".join(row) for row in rows)]
    path = tmp_path / "m.csv"
    path.write_bytes("\n".join(lines).encode(errors="replace"))
    for skipped in (None, Counter()):
        for row in read_or_refuse(lambda skipped=skipped: read_measurements(path, skipped)):
            assert all((getattr(row, m) or 1.0) > 0 for m in METRICS)
            assert (row.prompt_tokens or 0) >= 0


@FILES
@given(st.binary(max_size=400), st.sampled_from(["m.csv", "m.csv.gz", "m.parquet"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, name):
    path = tmp_path / name
    wrapped = gzip.compress(content) if name.endswith(".gz") and len(content) % 2 else content
    path.write_bytes(wrapped)
    for row in read_or_refuse(lambda: read_measurements(path)):
        assert any(getattr(row, metric) is not None for metric in METRICS)


VM_COLUMNS = (
    "InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "GpuInfo",
    "Price", "SpotPrice", "Region", "AvailabilityZone", "Arch",
)  # fmt: skip


@FILES
@given(st.lists(st.lists(cells, min_size=len(VM_COLUMNS), max_size=len(VM_COLUMNS)), max_size=6))
def test_price_rows_are_read_or_refused_in_one_line(tmp_path, rows):
    lines = [",".join(VM_COLUMNS), *(",".join(row) for row in rows)]
    path = tmp_path / "vms.csv"
    path.write_bytes("\n".join(lines).encode(errors="replace"))
    for skipped in (None, Counter()):
        found = read_or_refuse(lambda skipped=skipped: read_vms(path, Counter(), skipped))
        for vm in found[0] if found else ():
            assert vm.usd is None or 0 < vm.usd <= 1e12
            assert vm.usd is None or vm.spot_usd is None or vm.spot_usd < vm.usd


@given(st.one_of(words, words.map(lambda w: "{" + w), st.integers(1, 3000).map(lambda n: "{" * n)))
def test_gpu_info_is_never_run(text):
    found = gpu_memory_gib(text)
    assert found is None or found > 0
