"""What is found: chips, with how that is known."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from polysilicon.catalog.processors import ProcessorKind

Text = Annotated[str, Meta(max_length=1024)]
Count = Annotated[int, Meta(ge=0, le=2**60)]
"""Other machines tell of themselves, too; what is reckoned with it stays within a float."""


class Chip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of chip that a machine has.

    Attributes:
        kind: `cpu`, `gpu` or `asic`.
        chip: core, generation or accelerator; blank where nothing tells.
        processor: its name in the catalog; blank where it has none, or several may be meant.
        may_be: names in the catalog, where several may be meant.
        count: accelerators; 1 for the CPU.
        family: of accelerators, whose drivers and engines they share: `nvidia`, `amd`, `neuron`,
            `tpu` or `gaudi`; blank of CPUs.
        devices: files through which programs use them; none where the driver is not there.
        how: by what it is known.
    """

    kind: ProcessorKind
    chip: Text = ""
    processor: Text = ""
    may_be: tuple[Text, ...] = ()
    count: Count = 1
    family: Text = ""
    devices: tuple[Text, ...] = ()
    how: Text = ""

    @property
    def name(self) -> str:
        """The catalog's name, or what else is known."""
        return self.processor or self.chip or "unknown"
