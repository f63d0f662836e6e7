"""One request to llama.cpp in this process, and its answer as it comes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native.ending import Ending
from polysilicon.runtime.types import ChatResult


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of llama.cpp.

    Attributes:
        body: of the request.
        opening: of the answer, which `body` gives already.
        grammar: of the whole answer, where what it forces need not be computed; blank elsewhere.
    """

    body: dict[str, Any]
    opening: str = ""
    grammar: str = ""


class Call:
    """One streamed request, run in a worker thread; llama.cpp calls back with each token."""

    def __init__(
        self,
        server: Callable[[], Any],
        asked: Asked,
        stop: threading.Event,
        on_token: Callable[[str], None] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._server, self._asked, self._stop = server, asked, stop
        self._on_token, self._loop = on_token, loop
        self._pieces: list[str] = []
        self._usage: dict[str, Any] = {}
        self._finish = ""
        self._error = ""
        self._ending: Ending | None = None
        self._ended = False

    def run(self) -> None:
        """Block until the answer is complete, failed, or stopped."""
        if self._stop.is_set():
            return
        if self._asked.grammar:
            self._ending = Ending(self._asked.grammar)
        try:
            self._server().handle_chat_completions(self._asked.body, self._take)
        finally:
            if self._ending is not None:
                self._ending.close()

    def _take(self, chunk: Any) -> bool:
        """Take one chunk; True tells llama.cpp to stop."""
        for event in chunk if isinstance(chunk, list) else [chunk]:
            if self._ended:
                break
            if "error" in event:
                self._error = str(event["error"].get("message", event["error"]))
                return True
            self._usage = event.get("usage") or self._usage
            for choice in event.get("choices", ()):
                self._finish = choice.get("finish_reason") or self._finish
                text = choice["delta"].get("content")
                if text:
                    text = text if self._pieces else self._asked.opening + text
                    self._add(text)
                    self._end(text, event.get("timings"))
        return self._ended or self._stop.is_set()

    def _add(self, text: str) -> None:
        self._pieces.append(text)
        if self._on_token:
            self._loop.call_soon_threadsafe(self._on_token, text)

    def _end(self, text: str, counts: dict[str, int] | None) -> None:
        """End the answer after `text` where its grammar leaves one way to."""
        rest = self._ending.after(text) if self._ending is not None and counts else None
        if rest is None or counts is None:
            return
        if rest:
            self._add(rest)
        self._ended, self._finish = True, "stop"
        self._usage = {
            "prompt_tokens": counts["prompt_n"] + counts["cache_n"],
            "completion_tokens": counts["predicted_n"],
            "prompt_tokens_details": {"cached_tokens": counts["cache_n"]},
        }

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
        details = self._usage.get("prompt_tokens_details") or {}
        return ChatResult(
            text=text,
            data=parse_json(text) if is_json else None,
            finish_reason=self._finish,
            prompt_tokens=self._usage.get("prompt_tokens", 0),
            cached_tokens=details.get("cached_tokens", 0),
            output_tokens=self._usage.get("completion_tokens", 0),
        )


def parse_json(text: str) -> Any:
    """Return `text` as JSON, or None where it is not complete JSON (an answer cut at its limit)."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
