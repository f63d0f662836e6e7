"""Finding the profile of this machine, as far as it holds here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from polysilicon.catalog.machine import Machine
from polysilicon.cost.engine_choice import FILE, version_in_use
from polysilicon.cost.profile import AGAIN, Profile, profile_path, read_profile


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A profile that holds here, or none, and a line of why something is not used."""

    profile: Profile | None = None
    note: str = ""


def find_profile(machine: Machine, path: Path | None = None) -> Found:
    """Return the saved profile as far as it holds on `machine`.

    A profile of another machine is not used at all, and a model that another version of its engine
    served, or one that was set up in another way, is left out. Whoever asks says the note, once.

    Raises:
        InputError: the file is broken.
    """
    at = path if path is not None else profile_path()
    if not at.is_file():
        return Found()
    profile = read_profile(at)
    differs = _differs(profile, machine)
    if differs:
        return Found(note=f"the profile is not used: {differs}; {AGAIN}")
    beside = at.with_name(FILE)
    llm = {
        name: measured
        for name, measured in profile.llm.items()
        if measured.engine_version == version_in_use(measured.engine, name, machine, beside)
    }
    note = ""
    if len(llm) < len(profile.llm):
        gone = ", ".join(sorted(set(profile.llm) - set(llm)))
        reason = "another version of the engine, or set up in another way"
        note = f"the profile of {gone} is not used: {reason}; {AGAIN}"
    return Found(profile=msgspec.structs.replace(profile, llm=llm), note=note)


def _differs(profile: Profile, machine: Machine) -> str:
    """Say in what a machine differs from the one of the profile; nothing where it does not."""
    for what, there, here in (
        ("CPU", profile.cpu, machine.cpu),
        ("architecture", profile.arch, machine.arch),
        ("number of cores", profile.cores, machine.cores),
    ):
        if there != here:
            return f"its {what} is {there!r}, not {here!r}"
    # The kernel keeps some of the memory, and not always as much.
    if abs(profile.memory_bytes - machine.memory_bytes) > 0.05 * machine.memory_bytes:
        return "it is of a machine with another amount of memory"
    return ""
