from __future__ import annotations

import numpy as np
import pytest

from polysilicon.cost.fit.robust import huber


def test_a_plane_is_found_in_spite_of_wild_rows():
    rng = np.random.default_rng(3)
    columns = np.column_stack([np.ones(300), rng.normal(size=300)])
    values = columns @ [2.0, -0.5] + rng.normal(scale=0.02, size=300)
    values[:30] += 40.0
    found = huber(columns, values)
    assert found == pytest.approx([2.0, -0.5], abs=0.02)
    plain = np.linalg.lstsq(columns, values, rcond=None)[0]
    assert abs(plain[0] - 2.0) > 1.0


def test_columns_that_cannot_be_told_apart_stay_finite():
    one = np.ones((20, 1))
    found = huber(np.hstack([one, one]), np.full(20, 3.0))
    assert found.sum() == pytest.approx(3.0, rel=1e-3)
    assert found[0] == pytest.approx(found[1])
