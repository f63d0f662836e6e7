"""What an import could not use, counted by reason, and what it has to say of the rest."""

from __future__ import annotations

from collections import Counter

import msgspec

from polysilicon.errors import InputError


class Skip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why records were left out, and how many."""

    reason: str
    count: int


class Findings:
    """Counts what is left out; nothing is dropped silently.

    Args:
        skip_bad: malformed records are counted and left out, instead of ending the import.
    """

    def __init__(self, *, skip_bad: bool = False) -> None:
        self.skip_bad = skip_bad
        self._skipped: Counter[str] = Counter()
        self._notes: dict[str, int] = {}

    def bad(
        self, reason: str, *, where: str, mend: str = "", exactly: str = "", count: int = 1
    ) -> None:
        """Count a malformed record, which is left out.

        Args:
            reason: what is wrong; alike records have the same reason.
            where: file and offset, line or row.
            mend: what to do about it.
            exactly: the reason with what it is about; said where bad records end the import.
            count: of records that are left out for it.

        Raises:
            InputError: bad records are not to be skipped.
        """
        if not self.skip_bad:
            advice = mend or "leave such records out with --skip-bad"
            raise InputError(exactly or reason, where=where, mend=advice)
        self._skipped[reason] += count

    def leave(self, reason: str, count: int = 1) -> None:
        """Count records that are sound but are no steps, such as spans that hold others."""
        if count:
            self._skipped[reason] += count

    def note(self, text: str, count: int = 0) -> None:
        """Say something of the import, once: what was assumed, what the trace does not tell.

        Args:
            text: what is said.
            count: of how many values it is said; adds up, and is shown where it is not 0.
        """
        self._notes[text] = self._notes.get(text, 0) + count

    @property
    def skipped(self) -> list[Skip]:
        """What was left out, the commonest reason first."""
        return [Skip(reason=r, count=n) for r, n in self._skipped.most_common()]

    @property
    def notes(self) -> list[str]:
        """What was said, in the order in which it was said first."""
        return [f"{text}: {n:,}" if n else text for text, n in self._notes.items()]
