from __future__ import annotations

import pytest

from polysilicon import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 µs"), (0.00031, "310 µs"), (0.0042, "4.2 ms"), (4.2, "4.2 s"), (119, "119 s"),
        (120, "2 min"), (3599, "60 min"), (12600, "3.5 h"), (86400, "1 d"),
    ],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0"),
        (1234.5, "$1,234.50"),
        (0.1234, "$0.123"),
        (0.00000123, "$0.00000123"),
        (-2, "-$2.00"),
    ],
)
def test_usd(value: float, text: str) -> None:
    assert units.usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (812, "812"), (1234, "1,234"), (12400, "12.4k"), (3.1e6, "3.1M")]
)
def test_count(value: float, text: str) -> None:
    assert units.count(value) == text


def test_size_and_share() -> None:
    assert units.size_bytes(98362432) == "98.4 MB"
    assert units.size_bytes(12) == "12 B"
    assert units.share(0.39) == "39 %"
    assert units.share(0.004) == "0.4 %"
