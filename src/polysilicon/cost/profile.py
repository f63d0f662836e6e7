"""The profile of this machine: what `polysilicon calibrate` measured of it.

It lies in `$POLYSILICON_HOME`, or in `polysilicon` in the user's data folder (XDG base directory
specification: `$XDG_DATA_HOME`, `~/.local/share`). It holds measurements only; the laws that are
made of them are in `polysilicon.cost.llm.local`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from polysilicon.cost.engine_choice import data_folder
from polysilicon.disk import write_whole
from polysilicon.errors import InputError

HEAD_TOKENS = 64
"""Cached tokens that cost next to nothing: what a model puts before every conversation."""

FORMAT = 1
"""Of the file; one of another format is measured anew."""

AGAIN = "run `polysilicon calibrate`"
"""What mends a profile that does not hold."""


class Spread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quantity that was measured several times.

    Attributes:
        median: of the repeats.
        low: the lowest.
        high: the highest.
        repeats: how many.
    """

    median: float
    low: float
    high: float
    repeats: int = 1


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of repeats of one measurement; there is at least one."""
    return Spread(
        median=float(np.median(values)),
        low=float(min(values)),
        high=float(max(values)),
        repeats=len(values),
    )


class CoreSpeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast cores compress text with zlib, bzip2 and lzma.

    Attributes:
        one_mbs: geometric mean of the rates of one core alone, MB/s of text.
        all_mbs: the same of each core while all are busy.
        relative: speed of one core alone as a multiple of AWS Graviton3's, the catalog's scale;
            None where the package has no reference for it.
        relative_low: lower end of its band; the reference compressed another text.
        relative_high: upper end.
    """

    one_mbs: Spread
    all_mbs: Spread
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None

    @property
    def kept(self) -> float:
        """What a core keeps of its speed while all are busy."""
        return self.all_mbs.median / self.one_mbs.median


class MemoryBandwidth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory bandwidth with all cores busy, GB/s as STREAM counts: bytes read and written.

    Attributes:
        copy_gbs: of a = b.
        triad_gbs: of a = b + s·c.
        array_bytes: of each array, far more than the caches hold.
        threads: that worked.
    """

    copy_gbs: Spread
    triad_gbs: Spread
    array_bytes: int
    threads: int


class SandboxStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a sandbox takes for next to nothing.

    Attributes:
        startup_s: until it is ready.
        run_s: from the call to the result of an empty program.
        first_s: of the first run, which also starts the workers.
    """

    startup_s: Spread
    run_s: Spread
    first_s: float


class SearchSpeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of a query in a generated index.

    Attributes:
        query_s: of a query of `words` words for five hits.
        documents: in the index.
        words: of a query.
    """

    query_s: Spread
    documents: int
    words: int


class TrainSpeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast a low-rank adapter of one model is trained, forward, backward and optimizer.

    Attributes:
        threads: that compute.
        precision: of the frozen matrices.
        tokens: of a step of the optimizer that was timed.
        tokens_per_s: by the clock.
        core_s_per_token: core-seconds.
        setup_s: to read the model and make the optimizer, once a worker.
        first_s: seconds that a worker's first step of the optimizer takes more than others.
        served: seconds of answers with such an adapter over those of an engine that has loaded
            none; None where it was not measured.
        beside: the same of answers without it, of an engine that has loaded one.
        load_s: seconds that the first answers with an adapter take more.
    """

    threads: int
    precision: str
    tokens: int
    tokens_per_s: Spread
    core_s_per_token: Spread
    setup_s: float
    first_s: float = 0.0
    served: Spread | None = None
    beside: Spread | None = None
    load_s: float = 0.0


class PrefillPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds from a request to its first token, alone on the machine.

    Attributes:
        new_tokens: computed.
        cached_tokens: found in the prefix cache.
        seconds: to the first token.
    """

    new_tokens: int
    cached_tokens: int
    seconds: Spread

    @property
    def fresh(self) -> bool:
        """Whether no more of the prompt was cached than the head that all prompts share."""
        return self.cached_tokens <= max(self.new_tokens, HEAD_TOKENS)


class DecodePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of one decode iteration.

    Attributes:
        sequences: that got a token each.
        context_tokens: mean of each.
        seconds: of the iteration.
    """

    sequences: int
    context_tokens: float
    seconds: Spread


class TogetherPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of several prompts that came at once, from the first request to the last first token.

    Attributes:
        sequences: prompts.
        new_tokens: of all of them.
        pairs: Σ new·(cached + new/2), pairs of tokens that attend to each other.
        seconds: to the last first token.
    """

    sequences: int
    new_tokens: int
    pairs: float
    seconds: Spread


class StretchPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What engine and tools take from each other.

    Attributes:
        busy: tool processes that compute without pause.
        engine: seconds of the engine over those without tools.
        tool: seconds of a tool over those without the engine.
    """

    busy: int
    engine: float
    tool: float


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mixed load that was served and predicted: where the bands come from.

    Attributes:
        steps: in it.
        median_error: of the predicted service seconds, as a fraction.
        service_low: 5th percentile of measured over predicted seconds.
        service_high: 95th percentile.
        ttft_low: the same of the time to the first token.
        ttft_high: 95th percentile.
        tpot_low: the same of the time of each later token.
        tpot_high: 95th percentile.
    """

    steps: int
    median_error: float
    service_low: float
    service_high: float
    ttft_low: float
    ttft_high: float
    tpot_low: float
    tpot_high: float


class LlmProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model in one engine.

    Attributes:
        engine: its name.
        engine_version: of its package.
        model: name.
        precision: of the weights; blank where the file does not tell.
        threads: that compute.
        slots: sequences at once.
        slot_tokens: prompt and output of one sequence, at most.
        batch_tokens: that one iteration takes, at most.
        prefill_tokens_per_s: of a prompt of about 512 tokens.
        decode_tokens_per_s: of one sequence with a short context.
        prefill: seconds by new and cached tokens.
        decode: seconds of an iteration by sequences and context.
        together: seconds of prompts that came at once.
        stretch: under tools.
        trial: prediction against measurement; None where it was not done.
    """

    engine: str
    engine_version: str
    model: str
    precision: str = ""
    threads: int
    slots: int
    slot_tokens: int
    batch_tokens: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    prefill: tuple[PrefillPoint, ...]
    decode: tuple[DecodePoint, ...]
    together: tuple[TogetherPoint, ...] = ()
    stretch: tuple[StretchPoint, ...] = ()
    trial: Trial | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured of a machine; None and missing entries are what could not be.

    Attributes:
        format: of this file.
        version: of Polysilicon.
        measured_at: UTC, ISO 8601.
        seconds: that measuring took.
        cpu: model name of the processor.
        arch: as the kernel names it.
        cores: that the process could use.
        memory_bytes: of the machine.
        elsewhere: share of the machine that other programs used meanwhile, 0 to 1.
        core_speed: of one core and of all.
        memory_bandwidth: of all cores.
        sandboxes: sandbox → its start.
        search: of the full-text search.
        llm: model → what its engine does.
        servers: what models do in other engines, which are servers on this machine.
        train: model → how fast its adapters are trained.
        failed: part → why it could not be measured.
    """

    format: int = FORMAT
    version: str
    measured_at: str
    seconds: float
    cpu: str
    arch: str
    cores: int
    memory_bytes: int
    elsewhere: float = 0.0
    core_speed: CoreSpeed | None = None
    memory_bandwidth: MemoryBandwidth | None = None
    sandboxes: dict[str, SandboxStart] = {}
    search: SearchSpeed | None = None
    llm: dict[str, LlmProfile] = {}
    servers: tuple[LlmProfile, ...] = ()
    train: dict[str, TrainSpeed] = {}
    failed: dict[str, str] = {}

    def engines_of(self, model: str) -> list[LlmProfile]:
        """Return what a model does in each engine that was measured, the local one first.

        Servers that do not tell their engine are left out: nobody could ask for them.
        """
        own = self.llm.get(model)
        others = [one for one in self.servers if one.model == model and one.engine]
        return others if own is None else [own, *others]


def profile_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the profile lies."""
    return data_folder(environ) / "profile.json"


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        InputError: it is missing, broken, or of another format.
    """
    try:
        content = path.read_bytes()
        told = msgspec.json.decode(content)
        if isinstance(told, dict) and told.get("format", FORMAT) != FORMAT:
            raise InputError("a profile of another format", where=str(path), mend=AGAIN)
        return msgspec.convert(told, Profile)
    except OSError as error:
        raise InputError(f"no profile: {error.strerror}", where=str(path), mend=AGAIN) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not a profile: {error}", where=str(path), mend=AGAIN) from error


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile, whole or not at all.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    write_whole(path, msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
