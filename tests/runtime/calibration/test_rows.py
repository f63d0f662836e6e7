from __future__ import annotations

from polysilicon.catalog.measurements import read_measurements
from polysilicon.runtime.calibration.rows import measurements, write_rows
from profiles import profile


def test_the_rows_can_be_read_as_any_measurement_file(tmp_path):
    path = write_rows(profile(), tmp_path / "profile.json")
    assert path == tmp_path / "measurements.csv"
    rows = read_measurements(path)
    assert len(rows) == 6 + 12
    first, last = rows[0], rows[-1]
    assert (first.model, first.engine, first.count) == ("tiny", "llama.cpp", 2)
    assert first.prompt_tokens == 8
    assert abs(first.prefill_tokens_per_s * first.ttft_ms - 8e3) < 1e-6
    assert first.output_tokens == 0
    assert (last.concurrency, last.prompt_tokens, last.output_tokens) == (8.0, 0, 2000)
    assert abs(last.decode_tokens_per_s * last.tpot_ms - 8e3) < 1e-6


def test_prompts_with_a_cached_part_have_no_row():
    assert all(row.prompt_tokens != 96 + 512 for row in measurements(profile()))


def test_without_a_model_there_is_no_file(tmp_path):
    assert write_rows(profile(llm={}), tmp_path / "profile.json") is None
    assert list(tmp_path.iterdir()) == []
