"""What is told of a word that a file must not have where it has it."""

from __future__ import annotations

import pytest

from polysilicon.disk import read_toml
from polysilicon.errors import InputError
from polysilicon.planning.file import ProblemFile

BEGIN = '[horizon]\nmonths = 12\n[[demand]]\nname = "a"\nunit = "{unit}"\namount = {amount}\n'
CONTRACT = '[[contract]]\nshape = "{shape}"\nname = "c"\noffers = ["*"]\n{more}\n'


def told(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        read_toml(path, ProblemFile, mend="see the docs")
    return str(caught.value)


def test_a_wrong_key_is_told_with_those_of_its_own_place(tmp_path):
    begin = BEGIN.format(unit="cores", amount=4)
    wrong = begin + CONTRACT.format(shape="units", more="term_month = 12")
    assert "`$.contract[0]`; did you mean term_months" in told(tmp_path, wrong)
    wrong = begin + CONTRACT.format(shape="units", more="xyzzyx = 12")
    said = told(tmp_path, wrong)
    assert "known: " in said
    assert "term_months" in said
    assert "horizon" not in said
    assert "did you mean rhythm?" in told(tmp_path, begin + "rhytm = [1]\n")


def test_a_wrong_word_is_told_with_those_that_may_be(tmp_path):
    said = told(tmp_path, BEGIN.format(unit="MW", amount=4))
    assert "one of 'cores', 'requests/s', 'tasks/s', 'tokens/s', 'units'" in said
    wrong = BEGIN.format(unit="cores", amount=4) + CONTRACT.format(shape="unit", more="")
    assert "'hourly-dollars'" in told(tmp_path, wrong)


def test_a_key_that_is_lacking_is_told_where(tmp_path):
    wrong = BEGIN.format(unit="cores", amount=4) + CONTRACT.format(shape="drawdown", more="")
    assert "`$.contract[0]`; add " in told(tmp_path, wrong)


def test_elsewhere_what_helps_is_told_by_who_reads(tmp_path):
    assert "see the docs" in told(tmp_path, "months = 12\n")
    wrong = BEGIN.format(unit="cores", amount='"400 cores"')
    assert "Expected `float | array | null`, got `str` - at `$.demand[0].amount`" in told(
        tmp_path, wrong
    )
