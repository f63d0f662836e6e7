"""What crashes, crashes in a child process."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native import child
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.native.quality import Reading
from polysilicon.runtime.engines.native.speed import Extent, Speed
from polysilicon.runtime.engines.native.weights import TARGETS

_NEEDS = "void ggml_log_set(void *f, void *d) { (void) f; (void) d; }\n"
_TRAPS = _NEEDS + "void *ggml_backend_init(void) { __builtin_trap(); }\n"
_OTHER = _NEEDS + "static int r[64] = {1}; void *ggml_backend_init(void) { return r; }\n"


@pytest.fixture
def library(tmp_path):
    """Makes a shared library of C source."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")

    def make(source: str) -> str:
        file = tmp_path / "kernels.c"
        file.write_text(source)
        target = tmp_path / "kernels.so"
        command = [compiler, "-shared", "-fPIC", "-w", str(file), "-o", str(target)]
        subprocess.run(command, check=True)
        return str(target)

    return make


@pytest.mark.parametrize(
    ("source", "told"), [(_TRAPS, "died of SIG(ILL|TRAP)"), (_OTHER, "another interface of ggml")]
)
def test_kernels_that_cannot_be_used_are_an_error(library, local_model, source, told):
    job = child.Read(weights=str(local_model), kernels=library(source), threads=1)
    with pytest.raises(EngineError, match=told):
        child.run(job, Reading)


def test_what_is_no_model_is_an_error(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\1" * 4000)
    job = child.Convert(source=str(broken), target=str(tmp_path / "out.gguf"), kind="Q8_0")
    with pytest.raises(EngineError, match=r"broken\.gguf"):
        child.run(job, int)
    assert not (tmp_path / "out.gguf").exists()


def test_a_model_is_timed(local_model):
    extent = Extent(prompt_words=(16,), sequences=(2,), context_words=(8,), output=12, repeats=1)
    job = child.Time(model=str(local_model), setup=Setup(threads=2), extent=extent)
    speed = child.run(job, Speed)
    assert [prompt.words for prompt in speed.prompts] == [16]
    assert [batch.sequences for batch in speed.batches] == [2]
    assert len(speed.rates()) == 3
    assert all(seconds > 0 for seconds in speed.rates().values())


def test_nothing_is_begun_when_time_is_up(local_model):
    extent = Extent(prompt_words=(16,), sequences=(1, 2), output=4, repeats=1, whole_s=0.0)
    job = child.Time(model=str(local_model), setup=Setup(threads=2), extent=extent)
    speed = child.run(job, Speed)
    assert list(speed.rates()) == ["prompt of 16 words"]


def test_a_child_that_ends_at_once_says_why(local_model):
    job = child.Time(model=str(local_model), setup=Setup(threads="two"), extent=Extent())
    with pytest.raises(EngineError, match="ended with code 1: .*Expected `int`"):
        child.run(job, Speed)


def test_what_takes_too_long_is_ended(local_model):
    with pytest.raises(EngineError, match="took over 0 s"):
        child.run(child.Count(weights=str(local_model)), int, timeout_s=0.01)


def test_converted_weights_have_the_same_parameters(local_model, tmp_path):
    target = tmp_path / "weights.gguf"
    wanted = child.run(child.Size(source=str(local_model), kind=TARGETS[-1]), int)
    job = child.Convert(source=str(local_model), target=str(target), kind=TARGETS[-1])
    assert child.run(job, int) == 210  # 30 layers of seven matrices
    before, after = (child.run(child.Count(weights=str(p)), int) for p in (local_model, target))
    assert before == after > 134e6
    assert 0 <= target.stat().st_size - wanted < 4e6  # words and other facts of the model
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    again = child.Convert(source=str(target), target=str(tmp_path / "x.gguf"), kind=TARGETS[-1])
    with pytest.raises(EngineError, match="no weights that can be converted"):
        child.run(again, int)
    assert not Path(tmp_path / "x.gguf").exists()
