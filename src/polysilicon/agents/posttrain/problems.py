"""Problems whose answers are short Python functions, each with tests that its answer must pass.

A problem is a sentence composed of three parts: which elements of a list (or a string, or the
numbers up to n) are taken, what becomes of each, and what is made of them all. Two of three
compositions are to learn from; the third is held back, with all its numbers and letters, so that
no sentence that is evaluated was ever trained on. What is learnt is to compose.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

ENTRY_POINT = "solve"
HELD_BACK_ONE_IN = 3
"""One composition of so many is held back."""

_TESTS = 8
"""With as many, hardly an answer to another composition passes."""

Take = Callable[[Any, int], bool]
Change = Callable[[Any, int], Any]
Make = Callable[[list[Any]], Any]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A function to write.

    Attributes:
        name: of the composition, with its number.
        prompt: the function's header and docstring.
        test: defines `check(candidate)`, which asserts.
        entry_point: the function's name.
        whole: the model writes the function's body; else the one expression that it returns.
    """

    name: str
    prompt: str
    test: str
    entry_point: str = ENTRY_POINT
    whole: bool = False


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of problems.

    Attributes:
        name: of the family.
        argument: of the function.
        sentence: docstring with places `{make}`, `{change}` and `{take}`.
        elements: the elements of an argument.
        draw: an argument for a test.
        takes: words, with a place for the number k, to a condition on an element and k.
        changes: words to what an element becomes.
        makes: words to what is made of all.
    """

    name: str
    argument: str
    sentence: str
    elements: Callable[[Any], Sequence[Any]]
    draw: Callable[[random.Random], Any]
    takes: dict[str, Take]
    changes: dict[str, Change]
    makes: dict[str, Make]


_NUMBER_TAKES: dict[str, Take] = {
    "the even numbers": lambda x, _: x % 2 == 0,
    "the odd numbers": lambda x, _: x % 2 == 1,
    "the numbers greater than {k}": lambda x, k: x > k,
    "the numbers less than {k}": lambda x, k: x < k,
    "the numbers divisible by {k}": lambda x, k: x % k == 0,
    "the numbers not equal to {k}": lambda x, k: x != k,
}
_NUMBER_CHANGES: dict[str, Change] = {
    "": lambda x, _: x,
    "the squares of ": lambda x, _: x * x,
    "the doubles of ": lambda x, _: 2 * x,
    "the cubes of ": lambda x, _: x**3,
}
_NUMBER_MAKES: dict[str, Make] = {
    "the sum of": sum,
    "the list of": list,
    "the number of distinct values among": lambda xs: len(set(xs)),
    "the sorted list of": sorted,
    "the list, in reverse order, of": lambda xs: xs[::-1],
}


def _numbers(rng: random.Random) -> list[int]:
    return [rng.randrange(-6, 16) for _ in range(rng.randrange(4, 10))]


def _words(rng: random.Random) -> list[str]:
    length = rng.randrange(5, 10)
    return ["".join(rng.choices("adeeinosst", k=rng.randrange(1, 8))) for _ in range(length)]


def _sentence(rng: random.Random) -> str:
    return "".join(rng.choices("aabceeiou  rsAEXYZ019", k=rng.randrange(8, 16)))


FAMILIES = (
    Family(
        name="lists",
        argument="xs",
        sentence="Return {make} {change}{take} in the list xs.",
        elements=lambda xs: xs,
        draw=_numbers,
        takes=_NUMBER_TAKES | {"all the numbers": lambda _x, _k: True},
        changes=_NUMBER_CHANGES,
        makes=_NUMBER_MAKES,
    ),
    Family(
        name="ranges",
        argument="n",
        sentence="Return {make} {change}{take} from 1 to n.",
        elements=lambda n: range(1, n + 1),
        draw=lambda rng: rng.randrange(0, 40),
        takes=_NUMBER_TAKES,
        changes=_NUMBER_CHANGES,
        makes=_NUMBER_MAKES,
    ),
    Family(
        name="words",
        argument="words",
        sentence="Return {make} {change}{take} in the list words.",
        elements=lambda words: words,
        draw=_words,
        takes={
            "the words longer than {k} letters": lambda w, k: len(w) > k,
            "the words of exactly {k} letters": lambda w, k: len(w) == k,
            "the words that contain 'e'": lambda w, _: "e" in w,
            "the words that start with 's'": lambda w, _: w.startswith("s"),
            "all the words": lambda _w, _k: True,
        },
        changes={
            "": lambda w, _: w,
            "the lengths of ": lambda w, _: len(w),
            "the first letters of ": lambda w, _: w[0],
            "the last letters of ": lambda w, _: w[-1],
            "the reversals of ": lambda w, _: w[::-1],
            "the upper-case forms of ": lambda w, _: w.upper(),
        },
        makes={
            "the list of": list,
            "the sorted list of": sorted,
            "the number of distinct values among": lambda ws: len(set(ws)),
            "the list, in reverse order, of": lambda ws: ws[::-1],
        },
    ),
    Family(
        name="strings",
        argument="s",
        sentence="Return {make} {change}{take} in the string s.",
        elements=lambda s: s,
        draw=_sentence,
        takes={
            "the vowels": lambda c, _: c in "aeiou",
            "the digits": lambda c, _: c.isdigit(),
            "the letters": lambda c, _: c.isalpha(),
            "the upper-case letters": lambda c, _: c.isupper(),
            "the characters other than spaces": lambda c, _: c != " ",
        },
        changes={
            "": lambda c, _: c,
            "the upper-case forms of ": lambda c, _: c.upper(),
            "the lower-case forms of ": lambda c, _: c.lower(),
        },
        makes={
            "the number of": len,
            "the string of": "".join,
            "the list of": list,
            "the number of distinct values among": lambda cs: len(set(cs)),
            "the string, in reverse order, of": lambda cs: "".join(cs[::-1]),
        },
    ),
)


class _Composition(msgspec.Struct, frozen=True, kw_only=True):
    family: int
    take: str
    change: str
    make: str


def _compositions(*, held_back: bool) -> list[_Composition]:
    """Return the compositions of one side; which side is the same for every seed."""
    every = [
        _Composition(family=number, take=take, change=change, make=make)
        for number, family in enumerate(FAMILIES)
        for take in family.takes
        for change in family.changes
        for make in family.makes
    ]
    random.Random("held back").shuffle(every)  # noqa: S311 - no secret
    cut = len(every) // HELD_BACK_ONE_IN
    return every[:cut] if held_back else every[cut:]


def draw(rng: random.Random, count: int, *, held_back: bool) -> list[Problem]:
    """Return problems, the families taking turns, no composition twice before all had a turn."""
    lines: list[list[_Composition]] = [[] for _ in FAMILIES]
    for composition in _compositions(held_back=held_back):
        lines[composition.family].append(composition)
    for line in lines:
        rng.shuffle(line)
    problems = []
    for number in range(count):
        line = lines[number % len(lines)]
        problems.append(_problem(line[number // len(lines) % len(line)], rng))
    return problems


def _problem(composition: _Composition, rng: random.Random) -> Problem:
    family = FAMILIES[composition.family]
    k = rng.randrange(2, 8)
    take = composition.take.format(k=k)
    sentence = family.sentence.format(make=composition.make, change=composition.change, take=take)
    lines = ["def check(candidate):"]
    for _ in range(_TESTS):
        argument = family.draw(rng)
        right = _right(composition, k, argument)
        lines.append(f"    assert candidate({argument!r}) == {right!r}")
    return Problem(
        name=f"{family.name}: {composition.make} {composition.change}{take}",
        prompt=f'def {ENTRY_POINT}({family.argument}):\n    """{sentence}"""\n',
        test="\n".join(lines) + "\n",
    )


def _right(composition: _Composition, k: int, argument: Any) -> Any:
    """Return the right answer for an argument."""
    family = FAMILIES[composition.family]
    taken, changed = family.takes[composition.take], family.changes[composition.change]
    kept = [changed(x, k) for x in family.elements(argument) if taken(x, k)]
    return family.makes[composition.make](kept)
