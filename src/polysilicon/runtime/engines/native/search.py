"""What serves a model fastest here: kernels, weights, batches, threads, slots, by measurement.

Each candidate is timed in a child process, all of a round one after the other, and the rounds are
repeated: what others do on the machine meanwhile hits all of them. Of each rate the best counts,
as others can only slow it. Who is behind after a round is not in the next, which is left out where
one candidate remains. The whole search has a budget of time; what it leaves no time for is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from polysilicon.catalog.machine import Machine
from polysilicon.cost.engine_choice import (
    AS_SHIPPED,
    ENGINE,
    EngineChoice,
    choices_path,
    cpu_key,
    engine_version,
    read_choices,
    stale,
)
from polysilicon.errors import EngineError, InputError, PolysiliconError
from polysilicon.runtime import assets
from polysilicon.runtime.engines.native import build, child, quality
from polysilicon.runtime.engines.native.choice import Setup, changed
from polysilicon.runtime.engines.native.features import formats
from polysilicon.runtime.engines.native.speed import Extent, Speed
from polysilicon.runtime.models import model_name

Tell = Callable[[str], None]

KERNELS = "kernels built here"

ROUNDS = 2
TIMEOUT_S = 75.0
"""Of one candidate in one round; one that takes longer is no candidate."""

BUDGET_S = 45.0
"""Of a search, from when it begins to time; kernels and wheel are timed however long it takes."""

BEHIND = 0.95
"""A candidate whose rates are below this share of the best one's is not timed again."""

SLOWER, _START_S = 1.5, 3.0
"""A variant of the best candidate that takes so many times as long, and seconds to start, is ended:
it is behind, and what is left of it would tell only how far."""

EXTENT = Extent(prompt_words=(), sequences=(1, 4), context_words=(100,), repeats=1, whole_s=12.0)
"""What is timed of a candidate in a round: prompts, together more than any micro-batch but the
largest holds, and decoding after them."""

_NO_TIME = f"not timed within {BUDGET_S:.0f} s"

WORTH = 1.03
"""A candidate that is not faster by so much than a plainer one is not taken."""

SMALLER = 0.85
"""Share of the shipped file that a converted one may have: hardly smaller is hardly faster."""

BATCHES = ((512, 512), (2048, 256), (2048, 1024))
"""Tokens of an iteration, and of these at once; tried besides llama.cpp's own."""

SLOTS = Extent(
    prompt_words=(),
    sequences=(4, 8, 16, 32),
    context_words=(8,),
    output=20,
    repeats=1,
    whole_s=12.0,
)
"""Numbers of sequences at once that are tried with what was found."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve a model."""

    name: str
    setup: Setup
    weight_format: str = AS_SHIPPED


class Search:
    """Measures candidates for one model, and tells the best.

    Args:
        model: its file as it was shipped.
        machine: this one.
        tell: takes what is being done, for a person.
        checked: whether the kernels built here were compared with the wheel's just now.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        model: Path,
        machine: Machine,
        tell: Tell,
        *,
        checked: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._machine, self._tell = model, machine, tell
        self._checked, self._clock = checked, clock
        self._end_s = 0.0
        self._rates: dict[str, dict[str, float]] = {}
        self._took_s: dict[str, float] = {}
        self.refused: dict[str, str] = {}

    def run(self) -> EngineChoice:
        """Return the best choice.

        Raises:
            PolysiliconError: not even the wheel with the shipped file can be timed.
        """
        plain = Candidate(name="wheel", setup=Setup(threads=self._machine.cores))
        candidates = [plain, *self._with_kernels(plain), *self._converted(plain)]
        self._end_s = self._clock() + BUDGET_S
        best = self._best(candidates, needed=len(candidates)) if candidates[1:] else plain
        best = self._best([best, *_fewer_alone(best)])
        best = self._best([best, *_batches(best), *_fewer_threads(best)])
        return self._choice(best, plain, self._slots(best))

    def _slots(self, best: Candidate) -> int:
        """Return the fewest sequences at once that have nearly the highest rate; 0 if untimed."""
        if self._clock() > self._end_s:
            self.refused["slots"] = _NO_TIME
            return 0
        self._tell("how many sequences at once?")
        job = child.Time(model=str(self._model), setup=best.setup, extent=SLOTS)
        try:
            left_s = max(self._end_s - self._clock(), SLOTS.whole_s or 0.0)
            batches = child.run(job, Speed, left_s).batches
        except EngineError as error:
            self.refused["slots"] = str(error)
            return 0
        rates = {batch.sequences: batch.sequences / batch.seconds for batch in batches}
        most = max(rates.values())
        return min(count for count, rate in rates.items() if WORTH * rate >= most)

    def _with_kernels(self, plain: Candidate) -> list[Candidate]:
        """Return the kernels built here, checked again, where there are some."""
        built = build.find(self._machine)
        if built is None:
            return []
        if not self._checked:
            self._tell(f"{KERNELS}: do they compute the same?")
            try:
                build.check(Path(built.path), self._model, self._machine.cores)
            except EngineError as error:
                self.refused[KERNELS] = str(error)
                return []
        setup = msgspec.structs.replace(plain.setup, kernels=Path(built.path))
        return [Candidate(name=KERNELS, setup=setup)]

    def _converted(self, plain: Candidate) -> list[Candidate]:
        """Return the weights in other formats that lose little enough; the rest is refused."""
        found: list[Candidate] = []
        shipped: quality.Reading | None = None
        for kind in formats(self._machine):
            self._tell(f"weights in {kind}: what does it cost in quality?")
            target = converted_path(self._model, kind)
            try:
                reason = self._convert(target, kind)
                if not reason:
                    shipped = shipped or self._read(self._model)
                    reason = quality.refuse_weights(quality.compare(self._read(target), shipped))
            except PolysiliconError as error:
                # Nothing is known of the file, which may be what serves now.
                self.refused[kind] = str(error)
                continue
            if reason:
                self.refused[kind] = reason
                target.unlink(missing_ok=True)
                continue
            setup = msgspec.structs.replace(plain.setup, weights=target)
            found.append(Candidate(name=f"wheel, {kind}", setup=setup, weight_format=kind))
        built = build.find(self._machine)
        if built is None or KERNELS in self.refused:
            return found
        kernels = Path(built.path)
        return found + [
            msgspec.structs.replace(
                one,
                name=f"{KERNELS}, {one.weight_format}",
                setup=msgspec.structs.replace(one.setup, kernels=kernels),
            )
            for one in found
        ]

    def _convert(self, target: Path, kind: str) -> str:
        """Convert the weights, unless they are there already; say why where it is not worth it.

        Raises:
            EngineError: they cannot be converted.
        """
        size = child.run(child.Size(source=str(self._model), kind=kind), int)
        share = size / self._model.stat().st_size
        if share > SMALLER:
            return f"{share:.0%} of the shipped file's size, tried is up to {SMALLER:.0%}"
        if not target.is_file():
            child.run(child.Convert(source=str(self._model), target=str(target), kind=kind), int)
        return ""

    def _read(self, weights: Path) -> quality.Reading:
        job = child.Read(weights=str(weights), kernels=None, threads=self._machine.cores)
        return child.run(job, quality.Reading)

    def _best(self, candidates: list[Candidate], needed: int = 0) -> Candidate:
        """Time candidates against the first one, and return the best.

        Args:
            candidates: of them.
            needed: so many are timed once whatever time is left.

        Raises:
            PolysiliconError: the first one cannot be timed.
        """
        first, near = candidates[0], candidates
        for turn in range(ROUNDS):
            for number, candidate in enumerate(near):
                must = not turn and number < needed
                if must or self._has_time(candidate):
                    self._time(candidate, None if must else self._took_s.get(first.name))
            near = self._near(near)
            if len(near) < 2:
                break
        if first.name not in self._rates:
            reason = self.refused[first.name]
            raise EngineError(
                f"{first.name} cannot be timed: {reason}; run `polysilicon calibrate` when the "
                "machine is idle"
            )
        best, gain = first, WORTH
        for candidate in candidates[1:]:
            rates = self._rates.get(candidate.name)
            if rates is not None and mean_gain(rates, self._rates[first.name]) >= gain:
                best, gain = candidate, mean_gain(rates, self._rates[first.name])
        return best

    def _near(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return those that were timed and are not behind, best first: time may end before all."""
        timed = [one for one in candidates if one.name in self._rates]
        gains = {
            one.name: min(mean_gain(self._rates[one.name], self._rates[o.name]) for o in timed)
            for one in timed
        }
        near = [one for one in timed if gains[one.name] >= BEHIND]
        return sorted(near, key=lambda one: -gains[one.name])

    def _has_time(self, candidate: Candidate) -> bool:
        """Tell whether there is time for a candidate, as long as it or the last one took."""
        takes_s = self._took_s.get(candidate.name, next(reversed(self._took_s.values()), 0.0))
        if self._clock() + takes_s <= self._end_s:
            return True
        if candidate.name not in self._rates:
            self.refused.setdefault(candidate.name, _NO_TIME)
        return False

    def _time(self, candidate: Candidate, first_s: float | None) -> None:
        """Time a candidate once, and keep the best of its rates.

        Args:
            candidate: which.
            first_s: seconds that the one took that it is a variant of; None where it is not.
        """
        if candidate.name in self.refused:
            return
        begin_s = self._clock()
        left = f"{max(self._end_s - begin_s, 0):.0f} s left at most"
        self._tell(f"timing {candidate.name} ({left})")
        job = child.Time(model=str(self._model), setup=candidate.setup, extent=EXTENT)
        most_s = TIMEOUT_S if first_s is None else min(SLOWER * first_s + _START_S, TIMEOUT_S)
        try:
            rates = child.run(job, Speed, most_s).rates()
        except EngineError as error:
            if candidate.name not in self._rates:
                self.refused[candidate.name] = str(error)
            return
        finally:
            self._took_s[candidate.name] = self._clock() - begin_s
        known = self._rates.setdefault(candidate.name, {})
        for name, rate in rates.items():
            known[name] = max(rate, known.get(name, 0.0))

    def _choice(self, best: Candidate, plain: Candidate, slots: int) -> EngineChoice:
        setup = best.setup
        built = build.find(self._machine) if setup.kernels is not None else None
        base, rates = self._rates[plain.name], self._rates[best.name]
        return EngineChoice(
            engine_version=engine_version(ENGINE),
            cpu=cpu_key(self._machine),
            source_bytes=self._model.stat().st_size,
            kernels=built.path if built is not None else "",
            kernels_sha256=built.sha256 if built is not None else "",
            weights=str(setup.weights) if setup.weights is not None else "",
            weights_bytes=setup.weights.stat().st_size if setup.weights is not None else 0,
            weight_format=best.weight_format,
            threads=setup.threads,
            alone_threads=setup.alone_threads,
            batch=setup.batch,
            micro_batch=setup.micro_batch,
            slots=slots,
            gains={k: round(rates[k] / base[k], 3) for k in base if k in rates},
            refused=self.refused,
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def known(model: Path, machine: Machine) -> EngineChoice | None:
    """Return the choice that was made for a model, where nothing has changed since.

    New kernels, another wheel, CPU or file of the model are reasons to search again.
    """
    try:
        found = read_choices(choices_path()).models.get(model_name(model))
    except InputError:
        return None
    if found is None or stale(found, machine) or changed(found, model):
        return None
    built = build.find(machine)
    if built is not None and not found.kernels and KERNELS not in found.refused:
        return None
    return found


def converted_path(model: Path, kind: str) -> Path:
    """Return where a model's weights in another format lie."""
    name = f"{model.stem}.{model.stat().st_size}.{kind}.gguf"
    return assets.cache_folder() / "engine" / "weights" / name


def mean_gain(rates: dict[str, float], base: dict[str, float]) -> float:
    """Return the geometric mean of rates over those of another candidate: prompts and batches."""
    both = [name for name in base if name in rates]
    product = 1.0
    for name in both:
        product *= rates[name] / base[name]
    return float(product ** (1 / len(both))) if both else 0.0


def _batches(best: Candidate) -> list[Candidate]:
    return [
        msgspec.structs.replace(
            best,
            name=f"{best.name}, batch {batch}, micro-batch {micro}",
            setup=msgspec.structs.replace(best.setup, batch=batch, micro_batch=micro),
        )
        for batch, micro in BATCHES
    ]


def _fewer_alone(best: Candidate) -> list[Candidate]:
    """Return the same with fewer threads for one sequence, which waits for memory.

    Few cores may read it as fast as all do, and need not wait for each other.
    """
    threads = best.setup.threads
    return [
        msgspec.structs.replace(
            best,
            name=f"{best.name}, {count} of {threads} threads for one sequence",
            setup=msgspec.structs.replace(best.setup, alone_threads=count),
        )
        for count in sorted({1, threads // 2} - {0, threads}, reverse=True)
    ]


def _fewer_threads(best: Candidate) -> list[Candidate]:
    """Return the same with a thread less: others need a core too, and hyperthreads share one."""
    counts = {best.setup.threads - 1, best.setup.threads // 2} - {0, best.setup.threads}
    return [
        msgspec.structs.replace(
            best,
            name=f"{best.name}, {threads} threads",
            setup=msgspec.structs.replace(
                best.setup, threads=threads, alone_threads=min(best.setup.alone_threads, threads)
            ),
        )
        for threads in sorted(counts, reverse=True)
    ]
