"""Why no fleet can do it: the smallest set of rules in conflict, in words.

Rules are left out one after the other; one whose absence mends nothing stays out. What is left
cannot be met together, and could without any one of them (deletion filter: J. W. Chinneck and E.
W. Dravnieks, ORSA Journal on Computing 3(2), 1991).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from polysilicon import units
from polysilicon.errors import InfeasibleError
from polysilicon.placement.case import Case, Mask, Rule, State, program_of, resident
from polysilicon.placement.deadlines import Tail
from polysilicon.placement.eligible import Refused
from polysilicon.placement.parts import least_possible
from polysilicon.placement.solve import relax


def in_conflict(case: Case, state: State, allowed: Mask) -> list[Rule]:
    """Return a smallest set of rules that no fleet meets; none where parts of machines would."""
    rules = case.rules()
    if _possible(case, state, allowed, frozenset()):
        return []
    dropped: set[Rule] = set()
    for rule in rules:
        if not _possible(case, state, allowed, frozenset(dropped | {rule})):
            dropped.add(rule)
    return [rule for rule in rules if rule not in dropped]


def _possible(case: Case, state: State, allowed: Mask, without: frozenset[Rule]) -> bool:
    """Tell whether machines in fractions could do it without some rules."""
    program, _ = program_of(case, state, allowed, without)
    return relax(program) is not None


def refusal(case: Case, state: State, allowed: Mask) -> InfeasibleError:
    """Return the error that says why no fleet can do it."""
    rules = in_conflict(case, state, allowed)
    if not rules:
        every = [rule.words for rule in case.rules()]
        return InfeasibleError(f"no whole number of machines keeps {' and '.join(every)}")
    words = " and ".join(rule.words for rule in rules)
    told = f"{words} cannot be met"
    if len(rules) > 1:
        told = f"{words} are in conflict: without any one of them there is a fleet"
    others = frozenset(case.rules()) - frozenset(rules)
    there = allowed & resident(case, others)
    tails = {tail.agent: tail for tail in reversed(state.tails)}
    for rule in rules:
        if rule.kind == "slo":
            tail = tails[rule.subject]
            least = least_possible(case, tail, there)
            where = _fastest_offer(case, tail, there)
            told += f"; the least possible for {rule.subject} is {units.seconds(least)}, on {where}"
    return InfeasibleError(told)


def _fastest_offer(case: Case, tail: Tail, allowed: Mask) -> str:
    """Return the offer on which most of the least possible time is spent."""
    chosen = np.flatnonzero(allowed)
    pairs = case.pairs.take(chosen)
    seconds = tail.seconds(pairs)
    spent: Counter[str] = Counter()
    order = np.lexsort((seconds, pairs.code))
    _, first = np.unique(pairs.code[order], return_index=True)
    for place in order[first]:
        spent[case.options[int(pairs.option[place])].site.offer.name] += float(seconds[place])  # type: ignore[assignment]
    return spent.most_common(1)[0][0]


def check_served(case: Case, refused: list[Refused]) -> None:
    """Raise `InfeasibleError` where no offer can take a class, with or without residency."""
    _check(case, np.ones(len(case.pairs.code), dtype=bool), refused, "no offer can serve")
    whole = frozenset(rule for rule in case.rules() if rule.kind == "residency")
    if not whole:
        return
    there = resident(case)
    lost = _unserved(case, there)
    if len(lost):
        one = case.classes.each[int(lost[0])]
        words = [rule.words for rule in whole if rule.subject == one.data_class]
        offers = "none of the offers that can serve it is in these regions"
        raise InfeasibleError(f"{' and '.join(words)} cannot be met by {one.name}: {offers}")


def _unserved(case: Case, allowed: Mask) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the classes without any pair."""
    pairs = case.pairs.code[allowed]
    counts = np.bincount(pairs, minlength=len(case.classes.each))
    return np.flatnonzero(counts == 0)


def _check(case: Case, allowed: Mask, refused: list[Refused], what: str) -> None:
    """Raise where a class has no pair, with the reasons of its offers."""
    lost = _unserved(case, allowed)
    if not len(lost):
        return
    one = case.classes.each[int(lost[0])]
    role = "tool" if one.kind == "tool" else f"{one.kind}:{one.model}"
    reasons = [f"{r.offer}: {r.reason}" for r in refused if r.what in (role, "all")]
    more = f" and {len(lost) - 1} more classes" if len(lost) > 1 else ""
    told = "; ".join(reasons[:4]) or "none is asked for"
    raise InfeasibleError(f"{what} {one.name}{more}: {told}")
