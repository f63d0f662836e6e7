"""Every error that the project raises on purpose.

PolysiliconError            something went wrong; its text is one line for a person
├── InputError              the user's mistake: what, where, and the mend (exit code 2)
├── InfeasibleError         no answer exists; names the constraints in conflict (exit code 3)
├── NoBasisError            an estimate was refused for want of facts
└── StepError               a step did not end well; its `outcome` goes into the step record
    ├── StepTimeoutError
    ├── EngineError
    │   ├── UnreachedError
    │   └── LostError
    ├── SandboxError
    └── ToolError
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


class PolysiliconError(Exception):
    """Base of all errors that the project raises on purpose; `str(error)` is one line."""

    exit_code = 1


class InputError(PolysiliconError):
    """The user's mistake.

    Args:
        what: what is wrong, in a few words.
        where: file, row, field, or option; empty when `what` says it.
        mend: what to do about it; empty when nothing but the obvious.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        text = f"{where}: {what}" if where else what
        super().__init__(" ".join((f"{text}; {mend}" if mend else text).split()))


class InfeasibleError(PolysiliconError):
    """No answer satisfies the constraints; the text names those in conflict."""

    exit_code = 3


class NoBasisError(PolysiliconError):
    """An estimate was refused: no measurement and no facts to derive one from."""


class StepError(PolysiliconError):
    """A step did not end well.

    Attributes:
        outcome: as in the step record.
        cpu_s: core-seconds that it had used, where they are known.
        doubtful: what was asked may be the cause as well as what was to do it.
    """

    outcome = "error"
    cpu_s: float | None = None
    doubtful = False


class StepTimeoutError(StepError):
    """A step ran past its time limit."""

    outcome = "timeout"


class EngineError(StepError):
    """An engine could not answer a request.

    Args:
        text: in one line.
        of_request: the request is at fault, and no other engine would answer it either.
        begun: part of the answer has been handed on, so that no engine can begin it anew.
        down: the engine cannot be reached, or went away, and may come back.
        broke: it went away with the request under way, which may be why.

    Attributes:
        unasked: it failed before the engine was asked, which tells nothing of the engine.
    """

    unasked = False

    def __init__(
        self,
        text: str,
        *,
        of_request: bool = False,
        begun: bool = False,
        down: bool = False,
        broke: bool = False,
    ) -> None:
        self.of_request, self.begun, self.down, self.broke = of_request, begun, down, broke
        super().__init__(text)


class UnreachedError(EngineError):
    """Nobody answers at the address of an engine, whatever is asked."""


class LostError(EngineError):
    """The machine of a pool that was to do a step was lost, or none of the pool is there.

    That says nothing of the pool's other machines, which whoever runs the pool looks after.
    """

    unasked = True


class PolicyError(StepError):
    """The policy lets no pool take a step."""


class SandboxError(StepError):
    """A sandbox could not start or died; errors of the sandboxed code are results, not this."""


class ToolError(StepError):
    """A tool function raised."""


_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {chr(c): ascii(chr(c))[1:-1] for c in _CONTROLS if chr(c) not in "\t\n"}
_HIDDEN = re.compile(f"[{re.escape(''.join(_VISIBLE))}]")


def visible(text: str) -> str:
    r"""Return `text` with control characters as `\x1b`, for a terminal would obey them.

    So are those that change the direction of what follows. Tabs and ends of lines stay.
    """
    return _HIDDEN.sub(lambda found: _VISIBLE[found[0]], text)


def printable(text: str) -> str:
    """Return `text` with what UTF-8 cannot hold (lone surrogates) replaced."""
    return text.encode(errors="replace").decode()


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return "did you mean …?" with up to `count` known names near `name`, or nothing."""
    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.casefold(), candidate)
    folded = name.casefold()
    hits = get_close_matches(folded, by_folded, n=count, cutoff=0.5)
    inside = [c for c in by_folded if folded and folded in c and c not in hits]
    hits += inside[: count - len(hits)]
    return f"did you mean {', '.join(by_folded[h] for h in hits)}?" if hits else ""
