from __future__ import annotations

import click
import pytest

from polysilicon.cli.grouped import Grouped, group, number, whole

_size = group("Size")


@click.command(cls=Grouped)
@click.option("--quiet", is_flag=True, help="Say less.")
@_size("--wide", type=number(0, 2), help="How wide.")
@_size("--many", type=whole(1, 9), help="How many.")
@_size("--secret", hidden=True)
def verb(*, quiet, wide, many, secret):
    """Do."""
    click.echo(f"{wide} {many}")


def call(capsys, *args):
    verb.main(args=list(args), standalone_mode=False)
    return capsys.readouterr().out.strip()


def test_numbers_are_read(capsys):
    assert call(capsys, "--wide", "1.5", "--many", "9") == "1.5 9"
    assert call(capsys) == "None None"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--wide", "nan"], "nan is not between 0 and 2"),
        (["--wide", "inf"], "inf is not between 0 and 2"),
        (["--wide", "x"], "'x' is no number"),
        (["--many", "2.0"], "'2.0' is no whole number"),
        (["--many", "10"], "10 is not between 1 and 9"),
    ],
)
def test_what_is_no_such_number_names_the_option(capsys, args, words):
    with pytest.raises(click.BadParameter, match=words) as found:
        call(capsys, *args)
    assert args[0] in found.value.format_message()


def test_help_has_a_heading_for_each_group_and_the_rest_last(capsys):
    lines = call(capsys, "--help").splitlines()
    assert lines.index("Size:") < lines.index("Options:")
    assert not any("secret" in line for line in lines)
    assert any("--wide NUMBER" in line for line in lines)
