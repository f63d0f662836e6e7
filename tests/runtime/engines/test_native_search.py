from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from polysilicon.catalog.machine import detect
from polysilicon.cost.engine_choice import (
    AS_SHIPPED,
    BATCH,
    MICRO_BATCH,
    choices_path,
    write_choice,
)
from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native import build, child, search
from polysilicon.runtime.engines.native.quality import Reading
from polysilicon.runtime.engines.native.speed import Batch, Prompt, Speed

GOOD = Reading(log_probability=[-1.0] * 9, likeliest=[1] * 9, lead=[2.0] * 9)
BAD = Reading(log_probability=[-1.5] * 9, likeliest=[1] * 9, lead=[2.0] * 9)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYSILICON_HOME", str(tmp_path / "home"))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(96))
    return path


@pytest.fixture
def built(model):
    """Kernels that were built for this machine."""
    path = build.library_path(detect())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"kernels")
    return path


class World:
    """Answers jobs as a machine would whose speeds are known.

    Args:
        rates: tokens a second by (has kernels, format of the weights); an error where missing.
        bad: formats whose weights read badly.
        takes_s: to time anything.
    """

    def __init__(
        self,
        rates: dict[tuple[bool, str], float],
        bad: tuple[str, ...] = (),
        takes_s: float = 0.0,
    ) -> None:
        self.rates, self.bad, self.takes_s = rates, bad, takes_s
        self.best = (BATCH, MICRO_BATCH)
        self.alone_gain = 0.5  # of one thread for one sequence, over all threads
        self.at_once = {4: 1.0, 8: 1.9, 16: 2.0, 32: 2.02}
        self.now_s = 0.0
        self.size_bytes = 53  # of 100
        self.read = 0
        self.timed: Counter[tuple[bool, str]] = Counter()

    def run(self, job, _type, _timeout_s=0.0):
        if isinstance(job, child.Read):
            self.read += 1
            return BAD if any(f".{kind}." in job.weights for kind in self.bad) else GOOD
        if isinstance(job, child.Size):
            return self.size_bytes
        if isinstance(job, child.Convert):
            Path(job.target).parent.mkdir(parents=True, exist_ok=True)
            Path(job.target).write_bytes(job.kind.encode())
            return 1
        self.now_s += self.takes_s
        kind = job.setup.weights.suffixes[-2][1:] if job.setup.weights else AS_SHIPPED
        self.timed[job.setup.kernels is not None, kind] += 1
        rate = self.rates.get((job.setup.kernels is not None, kind))
        if rate is None:
            raise EngineError("died of SIGILL")
        now = (job.setup.batch, job.setup.micro_batch)
        rate *= 1.5 if now == self.best != (BATCH, MICRO_BATCH) else 1
        rate *= job.setup.threads
        rate *= self.alone_gain if job.setup.alone_threads == 1 else 1
        if job.extent == search.SLOTS:
            return self.slots()
        return Speed(
            prompts=(Prompt(words=9, tokens=20, seconds=20 / rate),),
            batches=(
                Batch(sequences=8, context_tokens=9.0, seconds=8 / rate, prompt_tokens_per_s=rate),
            ),
        )

    def slots(self) -> Speed:
        """Answer how fast several sequences at once are."""
        if not self.at_once:
            raise EngineError("took over 75 s")
        return Speed(
            prompts=(),
            batches=tuple(
                Batch(
                    sequences=count,
                    context_tokens=9.0,
                    seconds=count / rate,
                    prompt_tokens_per_s=1.0,
                )
                for count, rate in self.at_once.items()
            ),
        )


def find(model, world, monkeypatch):
    monkeypatch.setattr(child, "run", world.run)
    tell, clock = (lambda _what: None), (lambda: world.now_s)
    return search.Search(model, detect(), tell, clock=clock).run()


def test_nothing_but_the_wheel_is_the_wheel(model, monkeypatch):
    found = find(model, World({(False, AS_SHIPPED): 100}, bad=("Q4_0", "Q8_0")), monkeypatch)
    assert (found.kernels, found.weights, found.weight_format) == ("", "", AS_SHIPPED)
    assert found.threads == detect().cores
    assert set(found.gains.values()) == {1.0}
    assert found.tag == ""
    assert "perplexity rises by 64.9%" in found.refused["Q4_0"]


def test_the_fastest_kernels_and_weights_are_taken(model, built, monkeypatch):
    rates = {
        (False, AS_SHIPPED): 100.0, (True, AS_SHIPPED): 250.0,
        (False, "Q8_0"): 90.0, (True, "Q8_0"): 300.0,
    }  # fmt: skip
    found = find(model, World(rates, bad=("Q4_0",)), monkeypatch)
    assert found.kernels == str(built)
    assert found.weight_format == "Q8_0"
    assert found.weights_bytes == Path(found.weights).stat().st_size
    assert set(found.gains.values()) == {3.0}
    assert found.tag.startswith("+kernels.")
    assert not search.converted_path(model, "Q4_0").exists()


def test_a_file_that_cannot_be_converted_serves_as_it_is(model, built, monkeypatch):
    world = World({(False, AS_SHIPPED): 100.0, (True, AS_SHIPPED): 250.0, (True, "Q4_0"): 900.0})
    answers = world.run

    def run(job, *rest):
        if isinstance(job, child.Convert):
            raise EngineError("tiny.gguf: has no weights that can be converted to Q4_0")
        return answers(job, *rest)

    monkeypatch.setattr(world, "run", run)
    found = find(model, world, monkeypatch)
    assert found.kernels == str(built)
    assert (found.weights, found.weight_format) == ("", AS_SHIPPED)
    assert "no weights that can be converted" in found.refused["Q4_0"]


def test_what_is_hardly_smaller_is_not_converted(model, built, monkeypatch):
    world = World({(False, AS_SHIPPED): 100.0, (True, AS_SHIPPED): 250.0, (True, "Q4_0"): 900.0})
    world.size_bytes = 91
    found = find(model, world, monkeypatch)
    assert found.weight_format == AS_SHIPPED
    assert found.refused["Q4_0"] == "91% of the shipped file's size, tried is up to 85%"
    assert not search.converted_path(model, "Q4_0").exists()


def test_what_is_hardly_faster_is_not_taken(model, monkeypatch):
    rates = {(False, AS_SHIPPED): 100.0, (False, "Q4_0"): 102.0, (False, "Q8_0"): 101.0}
    assert find(model, World(rates), monkeypatch).weights == ""


def test_kernels_that_crash_when_timed_are_refused(model, built, monkeypatch):
    found = find(model, World({(False, AS_SHIPPED): 100.0}, bad=("Q4_0", "Q8_0")), monkeypatch)
    assert found.kernels == ""
    assert found.refused[search.KERNELS] == "died of SIGILL"


def test_one_thread_serves_one_sequence_where_that_is_faster(model, monkeypatch):
    world = World({(False, AS_SHIPPED): 100.0}, bad=("Q4_0", "Q8_0"))
    assert find(model, world, monkeypatch).alone_threads == 0
    world.alone_gain, world.best = 1.2, (2048, 256)
    found = find(model, world, monkeypatch)
    assert (found.alone_threads, found.threads) == (1, detect().cores)
    assert found.micro_batch == 256  # both are found
    assert found.tag == "+micro-batch.256.alone.1"


@pytest.mark.parametrize("best", search.BATCHES)
def test_batches_are_searched(model, monkeypatch, best):
    world = World({(False, AS_SHIPPED): 100.0}, bad=("Q4_0", "Q8_0"))
    world.best = best
    found = find(model, world, monkeypatch)
    assert (found.batch, found.micro_batch) == best
    assert set(found.gains.values()) == {1.5}
    assert found.tag


def test_slots_are_as_many_as_gain_something(model, monkeypatch):
    world = World({(False, AS_SHIPPED): 100.0}, bad=("Q4_0", "Q8_0"))
    assert find(model, world, monkeypatch).slots == 16
    world.at_once = {}
    found = find(model, world, monkeypatch)
    assert found.slots == 0
    assert found.refused["slots"] == "took over 75 s"


def test_who_is_far_behind_is_not_timed_again(model, built, monkeypatch):
    rates = {
        (False, AS_SHIPPED): 100.0, (True, AS_SHIPPED): 250.0,
        (False, "Q8_0"): 90.0, (True, "Q8_0"): 240.0,
    }  # fmt: skip
    world = World(rates, bad=("Q4_0",))
    assert find(model, world, monkeypatch).kernels == str(built)
    assert world.timed[False, AS_SHIPPED] == 1
    assert world.timed[False, "Q8_0"] == 1
    assert world.timed[True, "Q8_0"] == search.ROUNDS


def test_there_is_one_round_where_one_remains(model, built, monkeypatch):
    """Kernels that are far ahead are timed against the wheel once, and once with each variant."""
    rates = {(False, AS_SHIPPED): 100.0, (True, AS_SHIPPED): 250.0}
    world = World(rates, bad=("Q4_0", "Q8_0"))
    world.best = (512, 512)  # far ahead of the others
    assert find(model, world, monkeypatch).batch == 512
    cores = detect().cores
    alone = len({1, cores // 2} - {0, cores})
    variants = len(search.BATCHES) + len({cores - 1, cores // 2} - {0, cores})
    assert world.timed[False, AS_SHIPPED] == 1
    # Against the wheel, in two further rounds, and how many at once.
    assert world.timed[True, AS_SHIPPED] == 1 + (1 + alone) + (1 + variants) + 1


def test_who_is_ahead_is_timed_again_first(model, monkeypatch):
    """Where time ends in the second round, a lead is confirmed before what is behind it."""
    rates = {(False, AS_SHIPPED): 100.0, (False, "Q8_0"): 99.0, (False, "Q4_0"): 104.0}
    order: list[str] = []
    world = World(rates, takes_s=search.BUDGET_S / 3.5)
    answers = world.run

    def run(job, *rest):
        if isinstance(job, child.Time):
            weights = job.setup.weights
            order.append(weights.suffixes[-2][1:] if weights else "shipped")
        return answers(job, *rest)

    monkeypatch.setattr(world, "run", run)
    found = find(model, world, monkeypatch)
    assert found.weight_format == "Q4_0"
    assert order == ["shipped", "Q4_0", "Q8_0", "Q4_0"]


def test_what_there_is_no_time_for_is_told(model, built, monkeypatch):
    """Wheel and kernels are timed however long that takes; nothing is timed a second time."""
    rates = {(False, AS_SHIPPED): 100.0, (True, AS_SHIPPED): 250.0}
    world = World(rates, bad=("Q4_0", "Q8_0"), takes_s=search.BUDGET_S * 0.75)
    found = find(model, world, monkeypatch)
    assert found.kernels == str(built)
    assert set(found.gains.values()) == {2.5}
    assert world.timed == {(False, AS_SHIPPED): 1, (True, AS_SHIPPED): 1}
    assert found.slots == 0
    left = [name for name, why in found.refused.items() if "not timed within 45 s" in why]
    assert len(left) >= len(search.BATCHES) + 1
    assert (found.batch, found.micro_batch) == (BATCH, MICRO_BATCH)


def test_kernels_just_compared_are_not_compared_again(model, built, monkeypatch):
    rates = {(False, AS_SHIPPED): 100.0, (True, AS_SHIPPED): 250.0}
    reads = []
    for checked in (False, True):
        world = World(rates, bad=("Q4_0", "Q8_0"))
        monkeypatch.setattr(child, "run", world.run)
        search.Search(model, detect(), lambda _what: None, checked=checked).run()
        reads.append(world.read)
    assert reads[0] - reads[1] == 2  # one of each


def test_formats_without_kernels_are_not_tried(model, monkeypatch):
    """Neither Q4_0 nor Q8_0 is converted to on a CPU that multiplies all formats alike."""
    monkeypatch.setattr(child, "run", World({(False, AS_SHIPPED): 100}).run)
    plain = msgspec.structs.replace(detect(), isa_flags=frozenset({"sse2"}))
    found = search.Search(model, plain, lambda _what: None).run()
    assert found.refused == {}
    assert found.weights == ""


def test_a_wheel_that_cannot_be_timed_is_an_error(model, monkeypatch):
    with pytest.raises(EngineError, match="wheel cannot be timed: died of SIGILL"):
        find(model, World({}, bad=("Q4_0", "Q8_0")), monkeypatch)


def test_a_choice_holds_until_something_changes(model, monkeypatch):
    world = World({(False, AS_SHIPPED): 100.0}, bad=("Q4_0", "Q8_0"))
    assert search.known(model, detect()) is None
    found = find(model, world, monkeypatch)
    write_choice("tiny", found, choices_path())
    assert search.known(model, detect()) == found
    path = build.library_path(detect())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"new kernels")
    assert search.known(model, detect()) is None  # they were not tried yet
    path.unlink()
    model.write_bytes(b"GGUF")
    assert search.known(model, detect()) is None


def test_the_mean_gain_is_geometric():
    assert search.mean_gain({"a": 2.0, "b": 8.0}, {"a": 1.0, "b": 1.0}) == pytest.approx(4.0)
    assert search.mean_gain({}, {"a": 1.0}) == 0.0
