"""One request to llama.cpp in this process, and its answer as it comes."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native.ending import Ending
from polysilicon.runtime.engines.native.opening import Seam
from polysilicon.runtime.engines.native.slots import Slot, Slots
from polysilicon.runtime.types import ChatResult, OnToken

_NO_ROOM = "exceed_context_size_error"
"""What llama.cpp calls it that a prompt is longer than a slot."""


class Served(NamedTuple):
    """A server of llama.cpp, and which of its slots are busy."""

    server: Any
    slots: Slots


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of llama.cpp.

    Attributes:
        body: of the request.
        opening: of the answer, which `body` gives already.
        grammar: of the whole answer, where what it forces need not be computed; blank elsewhere.
        seams: where properties of the answer begin, last first; asked anew from there.
    """

    body: dict[str, Any]
    opening: str = ""
    grammar: str = ""
    seams: tuple[Seam, ...] = ()

    @property
    def prompt(self) -> str:
        """All messages, as one text that tells which prompts begin alike."""
        return "".join(f"{m['role']}\n{m.get('content')}\n" for m in self.body["messages"])

    def after(self, seam: Seam, answer: str, computed: int) -> dict[str, Any]:
        """Return the body that asks how an answer goes on, up to a seam, of `computed` tokens.

        Its seed is another one, or each value would be drawn by the same random numbers.
        """
        place = f"{self.body['seed']}/{len(answer)}"
        given = {"role": "assistant", "content": answer}
        return {
            **self.body,
            "messages": [*self.body["messages"][:-1], given],
            "grammar": seam.grammar,
            "max_tokens": self.body["max_tokens"] - computed,
            "seed": random.Random(place).getrandbits(31),  # noqa: S311 - no secret
        }


class _Counts(msgspec.Struct, frozen=True):
    """Tokens of an answer so far: read, found in the cache, generated."""

    prompt: int = 0
    cached: int = 0
    output: int = 0

    @classmethod
    def timed(cls, told: dict[str, int]) -> _Counts:
        """Return those of a piece of an answer."""
        read, cached = told["prompt_n"], told["cache_n"]
        return cls(prompt=read + cached, cached=cached, output=told["predicted_n"])

    @classmethod
    def of(cls, usage: dict[str, Any]) -> _Counts:
        """Return those of a whole answer."""
        details = usage.get("prompt_tokens_details") or {}
        return cls(
            prompt=usage.get("prompt_tokens", 0),
            cached=details.get("cached_tokens", 0),
            output=usage.get("completion_tokens", 0),
        )

    def plus(self, later: _Counts) -> _Counts:
        """Add those of a request that goes on: what it read that was not there."""
        if not self.prompt:
            return later
        return _Counts(
            prompt=self.prompt + later.prompt - later.cached,
            cached=self.cached,
            output=self.output + later.output,
        )


class Call:
    """One streamed request, run in a worker thread; llama.cpp calls back with each token."""

    def __init__(
        self,
        served: Callable[[], Served],
        asked: Asked,
        stop: threading.Event,
        on_token: OnToken | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._served, self._asked, self._stop = served, asked, stop
        self._on_token, self._loop = on_token, loop
        self._pieces: list[str] = []
        self._counts = _Counts()
        self._finish = ""
        self._error = ""
        self._ending: Ending | None = None
        self._ended = False
        self._seam: Seam | None = None
        self._earlier = _Counts()

    def run(self) -> None:
        """Block until the answer is complete, failed, or stopped."""
        if self._stop.is_set():
            return
        if self._asked.grammar:
            self._ending = Ending(self._asked.grammar)
        try:
            server, slots = self._served()
            with slots.taken(self._asked.prompt, self._asked.body["max_tokens"]) as slot:
                self._ask(server, slot)
                slot.text += "".join(self._pieces)
                slot.refused = bool(self._error) and not self._pieces
        finally:
            if self._ending is not None:
                self._ending.close()

    def _ask(self, server: Any, slot: Slot) -> None:
        """Ask, and again from each place on where an answer is to go on."""
        body = self._asked.body
        while True:
            server.handle_chat_completions(slot.told(body), self._take)
            if self._seam is None or self._stop.is_set():
                return
            answer = "".join(self._pieces)
            body = self._asked.after(self._seam, answer, self._earlier.output)
            self._seam = None

    def _take(self, chunk: Any) -> bool:
        """Take one chunk; True tells llama.cpp to stop."""
        for event in chunk if isinstance(chunk, list) else [chunk]:
            if self._ended or self._seam is not None:
                break
            if "error" in event and self._went_past(event["error"]):
                self._ended, self._finish, self._counts = True, "length", self._earlier
                return True
            if "error" in event:
                self._error = str(event["error"].get("message", event["error"]))
                return True
            if event.get("usage"):
                self._counts = self._earlier.plus(_Counts.of(event["usage"]))
            for choice in event.get("choices", ()):
                self._finish = choice.get("finish_reason") or self._finish
                text = choice["delta"].get("content")
                if text:
                    text = text if self._pieces else self._asked.opening + text
                    self._add(text)
                    self._end(text, event.get("timings"))
        return self._ended or self._seam is not None or self._stop.is_set()

    def _went_past(self, error: dict[str, Any]) -> bool:
        """Tell whether an answer that was begun has no room to go on."""
        return self._earlier.output > 0 and error.get("type") == _NO_ROOM

    def _add(self, text: str) -> None:
        self._pieces.append(text)
        if self._on_token is not None:  # each wakes a thread, which the model waits for
            self._loop.call_soon_threadsafe(self._tell, text)

    def _tell(self, text: str) -> None:
        """Tell a piece, in the loop's thread, until no more are wanted."""
        if self._on_token is not None and self._on_token(text) is False:
            self._on_token = None

    def _end(self, text: str, timings: dict[str, int] | None) -> None:
        """End the answer after `text` where its grammar leaves one way to."""
        if self._ending is None or timings is None:
            return
        counts = self._earlier.plus(_Counts.timed(timings))
        rest = self._ending.after(text)
        if rest is None:
            self._skip(counts)
            return
        if rest:
            self._add(rest)
        self._ended, self._finish = True, "stop"
        self._counts = counts

    def _skip(self, counts: _Counts) -> None:
        """Stop where a property follows in any case, to ask for the answer from there on."""
        if self._ending is None or counts.output >= self._asked.body["max_tokens"]:
            return
        begun, ahead = "".join(self._pieces), self._ending.ahead
        for seam in self._asked.seams:
            size = seam.ends_within(begun, ahead)
            if size:
                self._add(ahead[:size])
                self._ending.after(ahead[:size])
                self._seam, self._earlier = seam, counts
                return

    def result(self, is_json: bool) -> ChatResult:  # noqa: FBT001 - private, one caller
        """Return the whole answer.

        Raises:
            EngineError: llama.cpp refused the request.
        """
        if self._error:  # in this process it is there, so the request is at fault, as a long prompt
            raise EngineError(f"llama.cpp: {self._error}", of_request=True)
        if not self._finish:
            raise EngineError("llama.cpp: the answer broke off")
        text = "".join(self._pieces)
        return ChatResult(
            text=text,
            data=parse_json(text) if is_json else None,
            finish_reason=self._finish,
            prompt_tokens=self._counts.prompt,
            cached_tokens=self._counts.cached,
            output_tokens=self._counts.output,
        )


def parse_json(text: str) -> Any:
    """Return `text` as JSON, or None where it is not complete JSON (an answer cut at its limit)."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
