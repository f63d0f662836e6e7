from __future__ import annotations

import math

import pytest

from polysilicon import catalog
from polysilicon.catalog import scores
from polysilicon.catalog.scores import COMPRESSION, GEEKBENCH, ONE, PASSMARK, STRESS, CoreScore
from polysilicon.catalog.tables import data_folder
from polysilicon.errors import InputError

CHIP = "AMD EPYC 9R45 (Turin, AWS)"
TABLES = data_folder() / "cc_by_sa"


def score(processor: str, benchmark: str, value: float, threads: str = ONE) -> CoreScore:
    return CoreScore(
        processor=processor,
        benchmark=benchmark,
        threads=threads,
        score=value,
        unit="x",
        machines=1,
        source="test",
        date="2026",
    )


def test_every_cpu_that_can_be_rented_has_a_speed():
    rented = {o.processor.name for o in catalog.load().offers if o.kind == "cpu" and o.processor}
    assert rented <= set(scores.core_speeds())


def test_all_scores_belong_to_chips_of_the_catalog():
    assert {row.processor for row in scores.core_scores()} <= set(catalog.load().processors)


def test_the_compression_score_is_the_processors_core_speed():
    found = {r.processor: r.score for r in scores.core_scores() if r.benchmark == COMPRESSION}
    for name, value in found.items():
        known = catalog.load().processors[name].core_speed
        assert value / found[scores.REFERENCE] == pytest.approx(known, rel=0.02)


def test_the_speed_is_the_mean_of_both_benchmarks():
    rows = {(r.processor, r.benchmark): r.score for r in scores.core_scores() if r.threads == ONE}
    ratios = [rows[CHIP, b] / rows[scores.REFERENCE, b] for b in (COMPRESSION, GEEKBENCH)]
    found = scores.core_speeds()[CHIP]
    assert found.alone == pytest.approx(math.sqrt(math.prod(ratios)))
    assert not found.estimated
    assert scores.core_speeds()[scores.REFERENCE].alone == pytest.approx(1.0)


def test_a_chip_without_geekbench_is_estimated_and_says_so():
    assert scores.core_speeds()["AWS Graviton5"].estimated
    rows = (
        *(score(scores.REFERENCE, b, 100.0) for b in (COMPRESSION, GEEKBENCH, PASSMARK)),
        score("new", COMPRESSION, 200.0),
        score("new", PASSMARK, 400.0),
        score("lonely", PASSMARK, 400.0),
        score("half", COMPRESSION, 200.0),
    )
    found = scores.speeds(rows, {COMPRESSION: 0.5, PASSMARK: 0.5})
    assert found["new"].alone == pytest.approx(math.sqrt(2.0 * math.sqrt(8.0)))
    assert found["new"].estimated
    assert found.keys() == {scores.REFERENCE, "new"}


def test_the_estimate_of_geekbench_is_within_its_stated_error():
    """Of chips that have all three scores, the fitted weights miss Geekbench's by 12 % at most.

    Of hosts of accelerators, which the weights were not fitted on, by 16 %.
    """
    weights = scores.read_weights(TABLES / "score_weights.csv")
    rows = scores.core_scores()
    without = tuple(r for r in rows if r.benchmark != GEEKBENCH or r.processor == scores.REFERENCE)
    guessed, known = scores.speeds(without, weights), scores.core_speeds()
    both = [name for name, found in known.items() if not found.estimated]
    errors = [abs((guessed[n].alone / known[n].alone) ** 2 - 1) for n in both if n in guessed]
    assert max(errors) < 0.125
    hosts = scores.read_scores(TABLES / "host_scores.csv")
    asked = tuple(r for r in hosts if r.benchmark != GEEKBENCH) + without
    guessed = scores.speeds(asked, weights)
    chips = {r.processor for r in hosts}
    assert max(abs((guessed[n].alone / known[n].alone) ** 2 - 1) for n in chips) < 0.16
    assert len(errors) >= 13


def test_what_is_kept_falls_back_and_never_exceeds_one():
    base = [score(scores.REFERENCE, b, 100.0) for b in (COMPRESSION, GEEKBENCH)]
    one = [score("a", b, 100.0) for b in (COMPRESSION, GEEKBENCH)]
    unmeasured = scores.speeds((*base, *one), {})["a"]
    assert (unmeasured.kept_quarter, unmeasured.kept_whole, unmeasured.pair) == (1.0, 1.0, None)
    whole = score("a", STRESS, 0.8, scores.WHOLE)
    assert scores.speeds((*base, *one, whole), {})["a"].kept_quarter == 0.8
    quarter = score("a", STRESS, 1.01, scores.QUARTER)
    found = scores.speeds((*base, *one, whole, quarter), {})["a"]
    assert (found.kept_quarter, found.kept_whole) == (1.0, 0.8)


def test_a_wrong_cell_is_placed(tmp_path):
    header = "processor,benchmark,threads,score,unit,machines,source,date\n"
    file = tmp_path / "core_scores.csv"
    file.write_text(header + "x,compression,one,-1,MB/s,3,test,2026\n")
    with pytest.raises(InputError, match=r"core_scores.csv, row 2, score"):
        scores.read_scores(file)
