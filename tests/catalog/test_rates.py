from __future__ import annotations

import pytest

from polysilicon.catalog.rates import load_rates, read_rates
from polysilicon.catalog.servers import load_servers
from polysilicon.errors import InputError

HEADER = (
    "offer,model,engine,precision,device,prefill_512_tokens_per_s,prefill_4096_tokens_per_s,"
    "decode_128_tokens_per_s,decode_512_tokens_per_s,output_256_128_tokens_per_s,"
    "output_1024_256_tokens_per_s,busy_256_128_tokens_per_s,busy_256_128_concurrency,"
    "busy_1024_256_tokens_per_s,busy_1024_256_concurrency,date\n"
)
ROW = "aws/a,smollm-135m,llama.cpp,q4_k_m,cpu,1.5,,2,,,,,,,,2026-01-02\n"


def table(tmp_path, text):
    path = tmp_path / "rates.csv"
    path.write_text(text, "utf-8")
    return read_rates(path)


def test_every_shipped_row_is_sound():
    rates = load_rates()
    found = [rate for offer in rates for rate in rates[offer]]
    assert len(found) > 8000
    servers = load_servers().types
    assert all(rate.offer in servers for rate in found if rate.device == "cpu")
    for rate in found:
        assert (rate.busy_256_128_tokens_per_s is None) == (rate.busy_256_128_concurrency is None)


def test_a_row_is_read(tmp_path):
    rates = table(tmp_path, HEADER + ROW)
    assert len(rates) == 1
    assert "aws/a" in rates
    (rate,) = rates["aws/a"]
    assert (rate.prefill_512_tokens_per_s, rate.prefill_4096_tokens_per_s) == (1.5, None)
    assert rates.get("aws/b", ()) == ()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("offer,model\n", "rates.csv: columns are offer, model; must be offer, model, engine"),
        ("", "columns are missing"),
        (HEADER + "aws/a,b\n", "rates.csv, row 2: has 2 cells, not 16"),
        (HEADER + ROW.replace("1.5", "-1"), "row 2, prefill_512_tokens_per_s: '-1': must be"),
        (HEADER + ROW.replace("1.5", "x"), "row 2, prefill_512_tokens_per_s: 'x'"),
        (HEADER + ROW.replace("cpu", "abacus"), "row 2, device: 'abacus': must be cpu or"),
    ],
)
def test_mistakes_are_placed(tmp_path, text, wrong):
    with pytest.raises(InputError) as caught:
        _ = table(tmp_path, text)["aws/a"]
    assert wrong in str(caught.value)
