from __future__ import annotations

import pytest

from polysilicon.errors import InputError
from polysilicon.workload.durations import seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90.0), ("90s", 90.0), ("15 m", 900.0), ("1.5h", 5400.0), ("2d", 172_800.0)],
)
def test_a_duration_is_read_in_seconds(text: str, value: float) -> None:
    assert seconds(text, "--x") == value


def test_a_moment_may_be_0_and_a_duration_may_not() -> None:
    assert seconds("0", "--from", zero=True) == 0
    with pytest.raises(InputError, match="--x: '0' is not between 0 and 100 years"):
        seconds("0", "--x")


@pytest.mark.parametrize("text", ["", "soon", "1.2.3", "5q", "-1s", "nan"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no duration; write 90s"):
        seconds(text, "--x", zero=True)
