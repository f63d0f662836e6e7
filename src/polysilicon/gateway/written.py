"""The answer of `/v1/responses` as it is written: output items and the events that tell of them."""

from __future__ import annotations

import secrets
from typing import Any

Json = dict[str, Any]


class Written:
    """Builds a response from a chat completion, or from the events of one.

    Args:
        head: the response before anything is written.

    Attributes:
        response: as far as it is written.
    """

    def __init__(self, head: Json) -> None:
        self.response = head
        self._number = 0
        self._text: Json | None = None
        self._calls: dict[int, Json] = {}
        self._finish = ""

    def begin(self) -> list[Json]:
        """Return the events of a beginning."""
        return [
            self._told("response.created", response=dict(self.response)),
            self._told("response.in_progress", response=dict(self.response)),
        ]

    def take(self, event: Json) -> list[Json]:
        """Take an event of a chat completion, or a whole one, and return the events it makes."""
        found: list[Json] = []
        self.response["model"] = event.get("model") or self.response["model"]
        for choice in (event.get("choices") or ())[:1]:
            delta = choice.get("delta") or choice.get("message") or {}
            if delta.get("content"):
                found += self._add_text(delta["content"])
            for place, call in enumerate(delta.get("tool_calls") or ()):
                found += self._add_call(call.get("index", place), call)
            self._finish = choice.get("finish_reason") or self._finish
        return found

    def end(self, usage: Json) -> list[Json]:
        """Return the events of the end; the response is complete then."""
        found: list[Json] = []
        complete = self._finish != "length"
        status = "completed" if complete else "incomplete"
        for at, item in enumerate(self.response["output"]):
            item["status"] = status
            if item["type"] == "message":
                part = item["content"][0]
                place: Json = {"item_id": item["id"], "output_index": at, "content_index": 0}
                found += [
                    self._told(
                        "response.output_text.done", text=part["text"], logprobs=[], **place
                    ),
                    self._told("response.content_part.done", part=part, **place),
                ]
            else:
                told = {"item_id": item["id"], "output_index": at}
                told |= {"name": item["name"], "arguments": item["arguments"]}
                found.append(self._told("response.function_call_arguments.done", **told))
            found.append(self._told("response.output_item.done", output_index=at, item=item))
        self.response |= {"status": status, "usage": usage}
        if not complete:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        found.append(self._told(f"response.{status}", response=self.response))
        return found

    def _add_text(self, text: str) -> list[Json]:
        found: list[Json] = []
        output = self.response["output"]
        if self._text is None:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self._text = {"id": f"msg_{secrets.token_hex(16)}", "type": "message",
                          "role": "assistant", "status": "in_progress", "content": []}  # fmt: skip
            output.append(self._text)
            at = len(output) - 1
            found.append(self._told("response.output_item.added", output_index=at,
                                    item=dict(self._text)))  # fmt: skip
            found.append(self._told("response.content_part.added", item_id=self._text["id"],
                                    output_index=at, content_index=0, part=dict(part)))  # fmt: skip
            self._text["content"] = [part]
        self._text["content"][0]["text"] += text
        found.append(self._told("response.output_text.delta", item_id=self._text["id"],
                                output_index=output.index(self._text), content_index=0,
                                delta=text, logprobs=[]))  # fmt: skip
        return found

    def _add_call(self, index: int, call: Json) -> list[Json]:
        found: list[Json] = []
        function = call.get("function") or {}
        output = self.response["output"]
        if index not in self._calls:
            item = {"id": f"fc_{secrets.token_hex(16)}", "type": "function_call",
                    "status": "in_progress", "call_id": call.get("id"),
                    "name": function.get("name"), "arguments": ""}  # fmt: skip
            self._calls[index] = item
            output.append(item)
            found.append(self._told("response.output_item.added", output_index=len(output) - 1,
                                    item=dict(item)))  # fmt: skip
        item, piece = self._calls[index], function.get("arguments") or ""
        if piece:
            item["arguments"] += piece
            found.append(self._told("response.function_call_arguments.delta", item_id=item["id"],
                                    output_index=output.index(item), delta=piece))  # fmt: skip
        return found

    def _told(self, kind: str, **fields: Any) -> Json:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}
