"""What a grammar leaves no choice about, at both ends of an answer, is not generated."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.llamacpp import _COMPACT, LlamaCpp, _asked, compact_grammar
from polysilicon.runtime.engines.native import opening as module
from polysilicon.runtime.engines.native.call import Call, Served
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.native.ending import Ending
from polysilicon.runtime.engines.native.memory import has_states
from polysilicon.runtime.engines.native.opening import opening, takes_openings
from polysilicon.runtime.engines.native.slots import Slots
from polysilicon.runtime.engines.openai import OpenAI
from polysilicon.runtime.types import ChatRequest

SENTENCES = (
    "Parcels leave our house before noon.",
    "Returns are free within thirty days.",
)


@pytest.fixture(scope="module")
def engine(local_model: Path) -> Iterator[LlamaCpp]:
    """One thread: the few tokens here are there soonest so while others use the cores too."""
    opened = LlamaCpp(local_model, concurrency=1, context_tokens=512, setup=Setup(threads=1))
    yield opened
    asyncio.run(opened.close())


def of(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def ends(schema: dict[str, Any], *pieces: str) -> list[str | None]:
    ending = Ending(compact_grammar(schema))
    try:
        return [ending.after(piece) for piece in pieces]
    finally:
        ending.close()


@pytest.mark.parametrize(
    ("schema", "pieces", "told"),
    [
        ({"enum": list(SENTENCES)}, ('"', "R", "eturns"), [None, SENTENCES[1][1:] + '"']),
        ({"const": "yes"}, ('"',), ['yes"']),
        (
            of(a={"enum": ["red", "blue"]}, b={"const": 5}),
            ('{"a": "', "b"),
            [None, 'lue", "b": 5}'],
        ),
        # A number may go on; the brace after it ends the answer.
        (of(n={"type": "integer"}), ('{"n": 1', "2", "}"), [None, None, ""]),
        # One text that begins like another may end or go on.
        ({"enum": ["a", "ab"]}, ('"a', '"'), [None, ""]),
        ({"enum": ["größer", "groß"]}, ('"gr', "ö"), [None, 'ßer"']),
        ({"type": "string", "maxLength": 3}, ('"abc',), ['"']),
    ],
)
def test_what_can_only_end_in_one_way(schema, pieces, told):
    assert ends(schema, *pieces)[: len(told)] == told


def test_nothing_is_told_of_what_the_grammar_does_not_admit():
    assert ends({"enum": ["red", "blue"]}, '"x', "red", '"red"') == [None] * 3


def test_a_long_way_is_looked_ahead_once(monkeypatch):
    """Not as far again for each piece of it."""
    monkeypatch.setattr("polysilicon.runtime.engines.native.ending._MOST_BYTES", 64)
    ending = Ending(compact_grammar({"const": "x" * 200}))
    taken: list[int] = []
    take = ending._take
    monkeypatch.setattr(ending, "_take", lambda some: taken.append(len(some)) or take(some))
    for piece in ('"', "x", "xx", "xxx"):
        assert ending.after(piece) is None
    assert sum(taken) == 1 + 64 + 1 + 2 + 3
    assert ending.after("x" * 150) == "x" * 44 + '"'
    ending.close()


def test_a_closed_one_tells_nothing():
    ending = Ending(compact_grammar({"const": 1}))
    ending.close()
    ending.close()
    assert ending.after("1") is None


def test_answers_are_those_of_the_engine_without_computing_their_ends(engine: LlamaCpp):
    """The engine's own endpoint computes all; in this process it stops where the end is known."""
    request = ChatRequest(
        messages=({"role": "user", "content": "How long may I send it back?"},),
        schema={"enum": list(SENTENCES)},
        max_tokens=200,
    )
    pieces: list[str] = []

    async def both() -> Any:
        endpoint = OpenAI(engine.address, engine.model, key=engine.key)
        try:
            return await endpoint.chat(request), await engine.chat(request, pieces.append)
        finally:
            await endpoint.close()

    whole, stopped = asyncio.run(both())
    assert stopped.text == whole.text == "".join(pieces)
    assert stopped.data in SENTENCES
    assert stopped.finish_reason == whole.finish_reason == "stop"
    assert stopped.prompt_tokens == whole.prompt_tokens
    assert stopped.cached_tokens > 0
    assert 1 <= stopped.output_tokens <= 4
    assert whole.output_tokens > 8


def test_an_answer_ends_where_its_schema_does(engine: LlamaCpp):
    """Nothing is computed after the last brace, though hundreds of tokens are allowed."""
    request = ChatRequest(
        messages=({"role": "user", "content": "Six times seven?"},),
        schema=of(n={"type": "integer", "minimum": 0, "maximum": 99}),
        max_tokens=400,
    )
    pieces: list[str] = []
    found = asyncio.run(engine.chat(request, pieces.append))
    assert set(found.data) == {"n"}
    assert found.output_tokens <= len(pieces)


def test_stop_strings_are_the_engines(engine: LlamaCpp):
    """They may cut what the grammar would end with, so that the engine sees all of it."""
    request = ChatRequest(
        messages=({"role": "user", "content": "Say it."},),
        schema={"const": SENTENCES[0]},
        stop=("noon",),
        max_tokens=60,
    )
    assert asyncio.run(engine.chat(request)).text == '"Parcels leave our house before '


REPLY = of(reply_to={"type": "string", "minLength": 4, "maxLength": 6}, n={"enum": [1, 2]})


def test_the_opening_of_an_object_is_given_with_the_prompt(engine: LlamaCpp):
    """Its text is the same as where a stop string, which never comes, has it generated."""
    told = {
        "messages": ({"role": "user", "content": "Greet me in JSON."},),
        "schema": REPLY,
        "max_tokens": 60,
    }
    pieces: list[str] = []

    async def both() -> Any:
        plain = await engine.chat(ChatRequest(**told, stop=("\n\n\n",)))
        return plain, await engine.chat(ChatRequest(**told), pieces.append)

    plain, begun = asyncio.run(both())
    assert begun.text == plain.text == "".join(pieces)
    assert pieces[0].startswith('{"reply_to":')
    given = begun.prompt_tokens - plain.prompt_tokens
    assert given >= 3  # as the model would have written them
    assert begun.output_tokens <= plain.output_tokens - given


FORM = of(
    colour={"enum": ["red", "blue"]},
    name={"type": "string", "minLength": 3, "maxLength": 5},
    size={"type": "integer", "minimum": 0, "maximum": 99},
)


def test_keys_between_values_are_given_and_not_generated(engine: LlamaCpp):
    """The answer is one text, of pieces as they came; its tokens are counted once."""
    told = {
        "messages": ({"role": "user", "content": "Describe a ball in JSON."},),
        "schema": FORM,
        "max_tokens": 60,
    }
    pieces: list[str] = []

    async def both() -> Any:
        plain = await engine.chat(ChatRequest(**told, stop=("\n\n\n",)))
        return plain, await engine.chat(ChatRequest(**told), pieces.append)

    plain, skipped = asyncio.run(both())
    assert "".join(pieces) == skipped.text
    assert list(skipped.data) == list(plain.data) == ["colour", "name", "size"]
    assert skipped.data == plain.data
    assert any(piece.endswith(', "name":') for piece in pieces)
    given = skipped.prompt_tokens - plain.prompt_tokens
    assert given >= 9  # three keys of three tokens or more
    assert skipped.output_tokens + given <= plain.output_tokens
    assert skipped.cached_tokens < skipped.prompt_tokens
    assert skipped.finish_reason == "stop"


@pytest.mark.parametrize(
    ("begun", "kind", "kept"),
    [
        (True, "exceed_context_size_error", True),
        (True, "server_error", False),
        (False, "exceed_context_size_error", False),
    ],
)
def test_an_answer_that_has_no_room_to_go_on_ends_there(begun, kind, kept):
    """As llama.cpp told it, where the next key made the prompt longer than the slot."""
    asked = _asked(ChatRequest(messages=(), schema=FORM), "m", opens=True, resumes=True)
    token = {"prompt_n": 200, "cache_n": 10, "predicted_n": 1}
    text = {"choices": [{"delta": {"content": ' "r'}}], "timings": token}
    error = {"error": {"message": "request (283 tokens) exceeds", "type": kind}}
    replies = iter([[text if begun else error], [error]])

    def answer(_body: Any, take: Any) -> None:
        take(next(replies))

    served = Served(SimpleNamespace(handle_chat_completions=answer), Slots(1))
    loop = asyncio.new_event_loop()
    call = Call(lambda: served, asked, threading.Event(), None, loop)
    call.run()
    loop.close()
    if kept:
        found = call.result(is_json=True)
        assert (found.text, found.finish_reason) == ('{"colour": "red", "name":', "length")
        assert (found.data, found.prompt_tokens, found.output_tokens) == (None, 210, 1)
    else:
        with pytest.raises(EngineError, match="exceeds"):
            call.result(is_json=True)


@pytest.mark.parametrize(("begun", "held"), [(False, "read before"), (True, "well")])
def test_a_prompt_that_is_refused_leaves_what_its_slot_holds(begun: bool, held: str):
    """Else one that begins alike would be sent there, and find nothing of it."""
    messages = ({"role": "user", "content": "too long"},)
    asked = _asked(ChatRequest(messages=messages), "m", opens=False, resumes=False)
    text = {"choices": [{"delta": {"content": "well"}}]}
    error = {"error": {"message": "request (283 tokens) exceeds"}}

    def answer(_body: Any, take: Any) -> None:
        take([text, error] if begun else error)

    slots = Slots(1)
    with slots.taken("read before"):
        pass
    loop = asyncio.new_event_loop()
    served = Served(SimpleNamespace(handle_chat_completions=answer), slots)
    call = Call(lambda: served, asked, threading.Event(), None, loop)
    call.run()
    loop.close()
    with pytest.raises(EngineError, match="exceeds"):
        call.result(is_json=False)
    assert slots._held[0].endswith(held)


def test_each_value_is_drawn_by_random_numbers_of_its_own():
    """The same ones whenever the same was answered so far."""
    asked = _asked(ChatRequest(messages=(), schema=FORM, seed=3), "m", opens=True, resumes=True)
    last, second = asked.seams

    def seed(seam: Any, answer: str, of: Any = asked) -> int:
        return of.after(seam, answer, 1)["seed"]

    other = msgspec.structs.replace(asked, body={**asked.body, "seed": 4})
    found = {3, seed(second, "{1"), seed(last, "{1, 2"), seed(second, "{1", other)}
    assert len(found) == 4
    assert all(0 <= number < 2**31 for number in found)
    assert seed(second, "{1") == seed(second, "{1")


def test_models_with_states_are_not_asked_anew(tmp_path: Path, local_model: Path):
    """They would have to read all of it again."""
    file = tmp_path / "m.gguf"
    facts = ((b"general.architecture", 8, b"mamba"), (b"mamba.ssm.state_size", 4, 16))
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(facts))
    for name, kind, value in facts:
        head += struct.pack("<Q", len(name)) + name + struct.pack("<I", kind)
        is_text = isinstance(value, bytes)
        head += struct.pack("<Q", len(value)) + value if is_text else struct.pack("<I", value)
    file.write_bytes(head)
    assert has_states(file)
    assert not has_states(local_model)
    request = ChatRequest(messages=(), schema=FORM)
    asked = _asked(request, "m", opens=True, resumes=False)
    assert (bool(asked.opening), asked.seams) == (True, ())


def test_what_is_given_leaves_the_limit_of_tokens_as_it_is(engine: LlamaCpp):
    request = ChatRequest(
        messages=({"role": "user", "content": "Describe a ball in JSON."},),
        schema=FORM,
        max_tokens=6,
    )
    found = asyncio.run(engine.chat(request))
    assert (found.finish_reason, found.output_tokens, found.data) == ("length", 6, None)


@pytest.mark.parametrize(
    ("begun", "ahead", "size"),
    [
        ('{"a": "x"', ', "b": "', 6),
        ('{"a": "x', '", "b": "', 7),
        ('{"a": "x', "", 0),
        # Within a text, and within an object that is a value.
        ('{"a": "x', ', "b":', 0),
        ('{"a": {"c": 1', ', "b": 2}, "b": "', 15),
        ('{"a": {"a": 1', ', "b": 2', 0),
    ],
)
def test_a_seam_is_one_of_the_object_itself(begun, ahead, size):
    schema = of(a={"type": "string"}, b={"type": "string"})
    (seam,) = opening(schema, _COMPACT).seams
    assert (seam.text, seam.before) == (', "b":', ("a",))
    assert seam.ends_within(begun, ahead) == size


def test_the_grammar_after_a_seam_is_that_of_what_follows():
    last, second = opening(FORM, _COMPACT).seams
    for seam, pieces in ((second, (' "abc', '", "size": 7', "}")), (last, (" 7", "}"))):
        rest = Ending(seam.grammar)
        assert [rest.after(piece) for piece in pieces][-1] == ""
        rest.close()


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["a"]},
        {**REPLY, "additionalProperties": True},
        {**REPLY, "required": ["n"]},
        {**REPLY, "minProperties": 1},
        of(**{"a b": {"type": "string"}}),
        of(a={"$ref": "#"}),
        of(),
        {"type": "object", "properties": 3},
    ],
)
def test_openings_that_are_not_known_to_be_fixed_are_generated(schema):
    assert opening(schema, {}) is None


def test_the_grammar_of_what_follows_is_that_of_the_schema():
    """Whatever the order in which the schema requires its properties."""
    schema = {**REPLY, "required": ["n", "reply_to"]}
    begun = opening(schema, _COMPACT)
    assert ends(schema, begun.text + ' "abcd", "n": 2', "}") == ["}", ""]
    rest = Ending(begun.grammar)
    assert rest.after(' "abcd", "n": 2') == "}"
    rest.close()


@pytest.mark.parametrize(
    ("template", "takes"),
    [("{{ messages }}", True), ("{% if enable_thinking %}", False), ("<|channel|>", False)],
)
def test_models_that_think_first_get_no_opening(monkeypatch, template, takes):
    class Told:
        def text(self, _name: str) -> str:
            return template

    @contextmanager
    def facts(_model: Path) -> Any:
        yield Told()

    monkeypatch.setattr(module, "facts_of", facts)
    assert takes_openings(Path("m.gguf")) is takes
