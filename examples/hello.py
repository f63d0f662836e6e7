"""The smallest agent: one LLM step, one tool step.

polysilicon run examples/hello.py:hello --input examples/names.jsonl
"""

from __future__ import annotations

from typing import Any

from polysilicon import Context


def shout(text: str) -> str:
    """Say it loudly: a tool, called in a worker process."""
    return text.upper()


async def hello(ctx: Context, value: dict[str, Any]) -> dict[str, str]:
    """Greet a person."""
    question = f"Write one short, friendly greeting for {value['name']}."
    answer = await ctx.chat([{"role": "user", "content": question}], max_tokens=24)
    return {"greeting": answer.text, "loud": await ctx.call(shout, answer.text)}
