"""How much is measured."""

from __future__ import annotations

import msgspec


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured; the defaults take under three minutes with the demo's model.

    Attributes:
        text_bytes: of the text that is compressed.
        array_bytes: of each array that memory bandwidth is measured with.
        documents: in the index that is searched.
        prompts: tokens, about, as far as the engine's slots hold them.
        extension: tokens that are added to long prompts, to see what cached ones cost.
        contexts: tokens, about, at which decoding is timed.
        at_once: sequences that decode together.
        output: tokens of an answer that is timed.
        repeats: of each measurement of the engine, undisturbed.
        most: tries to get so many.
        spin_s: seconds that tools compute beside the engine.
        trial_steps: of a round of the mixed load at the end.
        search: whether the engine's kernels, weights and threads are searched for, where no
            search holds yet; up to a minute of the three.
        train: whether training of adapters is timed, where the extra `train` is installed.
    """

    text_bytes: int = 1_000_000
    array_bytes: int = 256 * 2**20
    documents: int = 2000
    prompts: tuple[int, ...] = (8, 32, 96, 192, 512, 1000)
    extension: int = 96
    contexts: tuple[int, ...] = (64, 320, 800)
    at_once: tuple[int, ...] = (1, 2, 4, 8)
    output: int = 20
    repeats: int = 3
    most: int = 5
    spin_s: float = 1.0
    trial_steps: int = 16
    search: bool = True
    train: bool = True


FULL = Extent()
