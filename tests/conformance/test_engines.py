"""Every engine that answers chats passes the same suite: llama.cpp in process, and over HTTP.

In process with the wheel's kernels, and with those that `polysilicon engine build` made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polysilicon.catalog.machine import detect
from polysilicon.errors import EngineError, InputError
from polysilicon.runtime.engines import open_engine
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.engines.native import build
from polysilicon.runtime.engines.native.call import parse_json
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.openai import OpenAI
from polysilicon.runtime.types import ChatRequest, Engine

COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


def ask(text: str, **options: Any) -> ChatRequest:
    return ChatRequest(messages=({"role": "user", "content": text},), **options)


@pytest.fixture(scope="session")
def built_here(local_model: Path) -> Iterator[LlamaCpp]:
    """The model with the kernels that were built for this CPU, where there are some."""
    kernels = build.find(detect())
    if kernels is None:
        pytest.skip("no kernels were built here")
    setup = Setup(kernels=Path(kernels.path), threads=2)
    engine = LlamaCpp(local_model, concurrency=4, context_tokens=1024, setup=setup)
    yield engine
    asyncio.run(engine.close())


@asynccontextmanager
async def opened(kind: str, llama: LlamaCpp) -> AsyncIterator[Engine]:
    """Open the engine `kind` over the one loaded model; llama.cpp's own endpoint is the server."""
    if kind != "openai":
        yield llama
        return
    engine = OpenAI(llama.address, llama.model, key=llama.key)
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture(params=["llama.cpp", "llama.cpp, kernels built here", "openai"])
def with_engine(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a scenario with the engine."""
    is_built = "built" in request.param
    llama: LlamaCpp = request.getfixturevalue("built_here" if is_built else "llama")

    def run(scenario: Callable[[Engine], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with opened(request.param, llama) as engine:
                return await scenario(engine)

        return asyncio.run(main())

    return run


def test_an_answer_with_its_tokens(with_engine) -> None:
    pieces: list[str] = []
    result = with_engine(lambda e: e.chat(ask("Say hello.", max_tokens=12), pieces.append))
    assert result.text
    assert "".join(pieces) == result.text
    assert result.finish_reason in {"stop", "length"}
    assert 0 < result.output_tokens <= 12
    assert result.prompt_tokens > 5


def test_greedy_answers_repeat(with_engine) -> None:
    request = ask("Name three fruits.", max_tokens=16)

    async def twice(engine: Engine) -> tuple[str, str]:
        first, second = await engine.chat(request), await engine.chat(request)
        return first.text, second.text

    first, second = with_engine(twice)
    assert first == second


def test_guessing_what_follows_changes_no_answer(llama: LlamaCpp, local_model: Path) -> None:
    """Prompt lookup: what is guessed is checked, so that the text is the same."""
    line = "The order 4711 was shipped on Monday to Hamburg."
    request = ask(f"Copy this line word for word, twice:\n{line}\n{line}", max_tokens=32)

    async def scenario() -> tuple[str, str]:
        plain = await llama.chat(request)
        setup = Setup(threads=2, prompt_lookup=True)
        engine = LlamaCpp(local_model, concurrency=1, context_tokens=512, setup=setup)
        try:
            guessed = await engine.chat(request)
        finally:
            await engine.close()
        assert guessed.output_tokens == plain.output_tokens
        return plain.text, guessed.text

    plain, guessed = asyncio.run(scenario())
    assert guessed == plain


def test_a_schema_holds(with_engine) -> None:
    request = ask("What colour is the sky? Answer in JSON.", schema=COLOUR, max_tokens=30)
    result = with_engine(lambda e: e.chat(request))
    assert result.data in ({"colour": "red"}, {"colour": "blue"})


def test_an_answer_cut_at_its_limit_has_no_data(with_engine) -> None:
    text = {"type": "string", "minLength": 40}
    result = with_engine(lambda e: e.chat(ask("The sky?", schema=text, max_tokens=2)))
    assert result.data is None
    assert result.finish_reason == "length"


def test_stop_strings(with_engine) -> None:
    request = ask("Count: one, two, three, four, five, six", max_tokens=40, stop=(",", "."))
    assert "," not in with_engine(lambda e: e.chat(request)).text


def test_a_repeated_beginning_comes_from_the_cache(with_engine) -> None:
    long = "The shop opens at nine and closes at six, every day but Sunday. " * 8

    async def twice(engine: Engine) -> Any:
        await engine.chat(ask(f"{long} When does it open?", max_tokens=4))
        return await engine.chat(ask(f"{long} When does it close?", max_tokens=4))

    result = with_engine(twice)
    assert result.cached_tokens > 0.5 * result.prompt_tokens


def test_a_prompt_that_is_too_long_is_refused(with_engine) -> None:
    async def scenario(engine: Engine) -> None:
        with pytest.raises(EngineError, match="exceeds the available context") as refused:
            await engine.chat(ask("word " * 5000))
        assert refused.value.of_request  # no other engine of its kind would take it either

    with_engine(scenario)


def test_who_wants_no_more_tokens_gets_the_whole_answer(with_engine) -> None:
    async def scenario(engine: Engine) -> tuple[list[str], str, str]:
        request, told = ask("Count from one to thirty.", max_tokens=24, temperature=0.0), []

        def first(text: str) -> bool:
            told.append(text)
            return False

        got = await engine.chat(request, first)
        assert len(told) == 1 or isinstance(engine, OpenAI)  # whose server tells anyhow
        every: list[str] = []
        await engine.chat(request, every.append)
        return told, got.text, "".join(every)

    told, text, every = with_engine(scenario)
    assert text == every
    assert text.startswith(told[0])


def test_cancelling_frees_the_engine(with_engine) -> None:
    async def scenario(engine: Engine) -> Any:
        begun = asyncio.Event()
        story = ask("Tell a very long story.", max_tokens=900)
        calls = [
            asyncio.create_task(engine.chat(story, lambda _text: begun.set()))
            for _ in range(engine.concurrency)
        ]
        await begun.wait()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(30):  # all slots taken by stories would hold this up for long
            return await engine.chat(ask("Say hello.", max_tokens=4))

    assert with_engine(scenario).output_tokens > 0


def test_embeddings_tell_near_from_far(local_model: Path) -> None:
    async def main() -> Any:
        engine = open_engine("llama.cpp", path=local_model, concurrency=1, context_tokens=256)
        try:
            return await engine.embed(["a cat sleeps", "a kitten is sleeping", "tax law of 1930"])
        finally:
            await engine.close()

    result = asyncio.run(main())
    cat, kitten, tax = (np.array(v) / np.linalg.norm(v) for v in result.vectors)
    assert cat @ kitten > cat @ tax
    assert result.prompt_tokens > 5


def test_endpoints_that_do_not_answer(llama: LlamaCpp) -> None:
    async def main() -> None:
        nobody = OpenAI("http://127.0.0.1:9/v1", "m")
        with pytest.raises(EngineError, match="127.0.0.1:9"):
            await nobody.chat(ask("hi"))
        with pytest.raises(EngineError, match="127.0.0.1:9"):
            await nobody.embed(["hi"])
        await nobody.close()
        stranger = OpenAI(llama.address, llama.model, key="wrong-secret")
        with pytest.raises(EngineError, match="HTTP 401") as caught:
            await stranger.chat(ask("hi"))
        assert "wrong-secret" not in str(caught.value)
        with pytest.raises(EngineError, match="HTTP 401"):
            await stranger.embed(["hi"])
        await stranger.close()
        known = OpenAI(llama.address, llama.model, key=llama.key)
        with pytest.raises(EngineError, match="embeddings"):
            await known.embed(["hi"])
        await known.close()

    asyncio.run(main())


def test_engines_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean llama.cpp"):
        open_engine("llamacpp")
    with pytest.raises(InputError, match="http://"):
        open_engine("openai", endpoint="ftp://x", model="m")
    with pytest.raises(InputError, match="no address"):
        open_engine("openai", endpoint="http://127.0.0.1:nope/v1", model="m")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\1" * 4000)
    with pytest.raises(InputError, match="cannot load the model"):
        open_engine("llama.cpp", path=broken)


def test_parse_json() -> None:
    assert parse_json('{"a": 1}') == {"a": 1}
    assert parse_json('{"a": ') is None
