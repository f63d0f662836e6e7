"""Whether an engine's slots fit into the memory that is free.

llama.cpp keeps keys and values of all slots at their full length, in f16, from the start: for
each token and layer as many numbers as its heads of keys and values are wide (Pope et al. 2022,
"Efficiently scaling transformer inference", section 2.1, counts them).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from polysilicon.errors import InputError
from polysilicon.runtime.engines.native.facts import facts_of
from polysilicon.units import size_bytes

CGROUP = Path("/sys/fs/cgroup")

_LIMITS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of a container, new and old: folder, its limit, what it uses, what of that are cached files."""

_BYTES = 2
_STATES = ("ssm.state_size", "wkv.head_size", "shortconv.l_cache", "kda.head_dim")
"""Facts of models with states that hold all tokens so far, and cannot be cut back to fewer."""

_OTHERWISE = ("attention.sliding_window", "attention.kv_lora_rank", *_STATES)
"""Facts of models that keep less than a key and a value for each token and layer."""

_PACKED = (2, 3, 8)
"""ggml's numbers of the formats that kernels built here pack: Q4_0, Q4_1, Q8_0."""


class KeysAndValues(msgspec.Struct, frozen=True, kw_only=True):
    """What a model keeps for each token.

    Attributes:
        layers: of the model.
        numbers: a layer's, keys and values together.
    """

    layers: int
    numbers: int

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes."""
        return self.layers * self.numbers * _BYTES


def keys_and_values(model: Path) -> KeysAndValues | None:
    """Return what a model keeps for each token, from its file's facts; None where they don't tell.

    Models with sliding windows, compressed keys or states instead keep less, and are not told of.
    """
    with facts_of(model) as facts:
        name = facts.text("general.architecture") if facts is not None else None
        if facts is None or name is None:
            return None
        heads = facts.number(f"{name}.attention.head_count")
        own = f"{name}.attention.head_count_kv"
        shared = facts.number(own) if facts.has(own) else heads
        layers = facts.number(f"{name}.block_count")
        width = facts.number(f"{name}.embedding_length")
        if any(facts.has(f"{name}.{which}") for which in _OTHERWISE):
            return None
        if not layers or not width or not heads or not shared:
            return None
        key, value = (
            facts.number(f"{name}.attention.{part}_length") or width // heads
            for part in ("key", "value")
        )
        return KeysAndValues(layers=layers, numbers=shared * (key + value))


def has_states(model: Path) -> bool:
    """Tell whether a model keeps states, so that an answer is read anew to go on with it."""
    with facts_of(model) as facts:
        name = facts.text("general.architecture") if facts is not None else None
        return facts is not None and any(facts.has(f"{name}.{state}") for state in _STATES)


def free_bytes(cgroup: Path = CGROUP) -> int:
    """Return the memory that is free: the machine's, or the container's where that is less."""
    free = int(psutil.virtual_memory().available)
    for folder, limit, used, cached in _LIMITS:
        with suppress(OSError, ValueError):  # `max` is no number: there is no limit
            most = int((cgroup / folder / limit).read_text())
            taken = int((cgroup / folder / used).read_text())
            files = _line(cgroup / folder / "memory.stat", cached)
            free = min(free, max(most - taken + files, 0))
    return free


def _line(file: Path, name: str) -> int:
    """Return a number of a file with a name and a number in each line; 0 where it is missing."""
    rows = (line.partition(" ") for line in file.read_text().splitlines())
    return next((int(value) for found, _, value in rows if found == name), 0)


def check_slots(
    model: Path, slots: int, slot_tokens: int, free: int, *, packs: bool = False
) -> None:
    """Refuse slots that memory has no room for beside the weights, where the facts tell.

    Args:
        model: its file.
        slots: that are asked for.
        slot_tokens: of each.
        free: bytes of memory.
        packs: kernels built here serve, which keep a copy of weights as they multiply them.

    Raises:
        InputError: they do not fit.
    """
    kept = keys_and_values(model)
    if kept is None:
        return
    weights, slot = model.stat().st_size, kept.bytes_per_token * slot_tokens
    with facts_of(model) as facts:
        copy = facts.weights_bytes(_PACKED) if packs and facts is not None else 0
    if weights + copy + slots * slot <= free:
        return
    beside = f" and {size_bytes(copy)} for their copy in built kernels" if copy else ""
    what = (
        f"{slots} slots of {slot_tokens:,} tokens need {size_bytes(slots * slot)} of memory beside "
        f"{size_bytes(weights)} of weights{beside}, and {size_bytes(free)} are free"
    )
    most = max(free - weights - copy, 0) // slot
    mend = f"set the pool's concurrency to at most {most}" if most else "take a smaller model"
    raise InputError(what, where=str(model), mend=mend)
