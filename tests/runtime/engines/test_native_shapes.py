"""Random weights in the shape of a model are a model that can be timed."""

from __future__ import annotations

import pytest

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native import child
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.native.shapes import SHAPES, Shape
from polysilicon.runtime.engines.native.speed import Extent, Speed

SMALL = Shape(layers=2, width=128, inner=256, heads=2, shared=1)


def test_a_shape_is_a_model_that_can_be_timed(local_model, tmp_path):
    target = tmp_path / "random.gguf"
    job = child.Make(shape=SMALL, source=str(local_model), target=str(target))
    weights = child.run(job, int)
    of_layer = 2 * 128 + 2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 256
    assert weights == 49152 * 128 + 128 + 2 * of_layer
    assert child.run(child.Count(weights=str(target)), int) == weights
    extent = Extent(prompt_words=(4,), sequences=(), repeats=1)
    time = child.Time(model=str(target), setup=Setup(threads=1), extent=extent)
    assert child.run(time, Speed).prompts[0].seconds > 0


def test_a_billion_weights_are_as_many_as_told():
    sizes = SHAPES["1b"].tensors(49152).values()
    assert sum(size[0] * (size[1] if len(size) > 1 else 1) for size in sizes) == 1_073_809_408


def test_a_source_that_is_no_model_is_an_error(tmp_path):
    source = tmp_path / "no.gguf"
    source.write_bytes(b"GGUF")
    job = child.Make(shape=SMALL, source=str(source), target=str(tmp_path / "x.gguf"))
    with pytest.raises(EngineError, match=r"no\.gguf: not of llama's architecture"):
        child.run(job, int)
    assert [path.name for path in tmp_path.iterdir()] == ["no.gguf"]
