from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon.catalog.tables import data_folder
from polysilicon.cost.llm.cpu_kriging import covariance, krige, nearest
from polysilicon.cost.llm.cpu_rates import load_data, read_kernel

KERNEL = read_kernel(data_folder("polysilicon.cost") / "cc_by_sa" / "cpu_kernel.csv")
DATA = load_data()


def some(count, seed=0):
    at = np.random.default_rng(seed).choice(len(DATA.logs), count, replace=False)
    return DATA.points.take(at)


def test_covariance_is_symmetric_and_positive():
    points = some(60)
    among = covariance(points, points, KERNEL)
    np.testing.assert_allclose(among, among.T)
    assert np.linalg.eigvalsh(among).min() > -1e-9


def test_whole_machines_tell_less_of_divided_ones():
    point = some(1)
    bare = msgspec.structs.replace(point, bare=1.0 - point.bare, instance=point.instance + 1)
    virtual = msgspec.structs.replace(point, instance=point.instance + 1)
    alike, apart = (covariance(point, other, KERNEL)[0, 0] for other in (virtual, bare))
    assert 0.0 < apart < alike
    # What a hypervisor counts, it counts as so many doublings of vCPUs.
    larger = msgspec.structs.replace(virtual, size=point.size + KERNEL.bare)
    assert apart == pytest.approx(covariance(point, larger, KERNEL)[0, 0])


def test_nothing_known_leaves_the_prior():
    query = some(3)
    mean, deviation = krige(query, query.take(np.zeros(0, int)), np.zeros(0), np.zeros(0), KERNEL)
    assert not mean.any()
    sizes = (KERNEL.chip, KERNEL.series, KERNEL.family, KERNEL.isa, KERNEL.all, KERNEL.instance)
    expected = np.sqrt(sum(size**2 for size in sizes) + KERNEL.noise**2)
    np.testing.assert_allclose(deviation, expected)


def test_one_known_point_is_followed_as_far_as_it_is_alike():
    # Closed form of one point: mean = k/(k0 + noise) r, variance = k0 + noise - k²/(k0 + noise).
    known, query = some(1), some(1)
    noise = np.array([KERNEL.noise**2])
    mean, deviation = krige(query, known, np.array([0.4]), noise, KERNEL)
    own = covariance(query, query, KERNEL)[0, 0]
    across = covariance(query, known, KERNEL)[0, 0]
    assert mean[0] == pytest.approx(across / (own + noise[0]) * 0.4)
    variance = own + noise[0] - across**2 / (own + noise[0])
    assert deviation[0] == pytest.approx(np.sqrt(variance))


def test_more_points_never_make_less_sure():
    query, known = some(4, seed=1), some(40, seed=2)
    noise = np.full(40, KERNEL.noise**2)
    few = krige(query, known.take(np.arange(10)), np.zeros(10), noise[:10], KERNEL)[1]
    many = krige(query, known, np.zeros(40), noise, KERNEL)[1]
    assert np.all(many <= few + 1e-12)


def test_the_nearest_are_of_the_same_server_and_model_first():
    at = next(i for i, key in enumerate(DATA.keys) if key[0] == "aws/m8g.4xlarge")
    query = DATA.points.take(np.array([at]))
    found = nearest(query, DATA.points, KERNEL, 8)
    assert at in found
    assert len({DATA.keys[i][2] for i in found}) <= 2
    assert np.all(DATA.points.family[found] == query.family)
    assert len(nearest(query, DATA.points.take(np.arange(5)), KERNEL, 8)) == 5


def test_distance_lessens_likeness():
    point = some(1)
    larger = msgspec.structs.replace(point, size=point.size + 2.0)
    other = msgspec.structs.replace(point, chip=point.chip + 1)
    own = covariance(point, point, KERNEL)[0, 0]
    assert covariance(point, larger, KERNEL)[0, 0] < own
    assert covariance(point, other, KERNEL)[0, 0] == pytest.approx(own - KERNEL.chip**2)
