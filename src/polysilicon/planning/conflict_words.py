"""Why no plan exists, in the words of the problem file."""

from __future__ import annotations

from polysilicon import units
from polysilicon.errors import InfeasibleError
from polysilicon.planning.answer import ConflictError, Rule
from polysilicon.planning.compose import Composed

_WORDS = {
    "demand": "all of {subject} must be served",
    "supply": "the supply of {subject}",
    "cap": "the limit {subject}",
    "vendor": "the largest share of vendor {subject}",
    "redundancy": "any one {subject} may be lost",
    "most": "the most of contract {subject}",
    "lead": "the lead time of contract {subject}",
}
_MENDS = {
    "demand": "give the demand unmet_usd, what work left undone costs",
    "supply": "raise the supply, or add offers",
    "cap": "raise the limit",
    "vendor": "raise vendor_share_max, or add contracts with others",
    "redundancy": "lower must_survive, or add contracts elsewhere",
    "most": "raise most of the contract",
    "lead": "rent by the hour meanwhile (rented = true), or begin later",
}


def conflict_words(error: ConflictError, composed: Composed) -> InfeasibleError:
    """Return the error for a person: the rules in conflict, and what would mend each."""
    if not error.rules:
        return InfeasibleError("no whole number of units keeps all rules")
    words = [_said(rule, composed) for rule in error.rules]
    told = f"no plan: {' and '.join(words)}"
    told += (
        " cannot be met" if len(words) == 1 else " are in conflict; without any one there is one"
    )
    mends = list(dict.fromkeys(_MENDS[rule.kind] for rule in error.rules if rule.kind in _MENDS))
    return InfeasibleError(f"{told}; {', or '.join(mends)}" if mends else told)


def _said(rule: Rule, composed: Composed) -> str:
    """Return a rule as a person says it."""
    text = _WORDS.get(rule.kind, f"{rule.kind} of {{subject}}").format(subject=rule.subject)
    if rule.month >= 0:
        text += f" in {composed.calendar.name(rule.month)}"
    if rule.lacking:
        text += f" ({units.count(rule.lacking)} lacking)"
    return text
