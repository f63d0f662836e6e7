"""What an engine that knows no tools is asked: one schema, and for an engine here its grammar.

A grammar takes up to seconds, and callers wait for each other's; so it is made before a call
takes room at an engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from polysilicon.gateway import bodies, tools
from polysilicon.gateway.bodies import ChatBody, Json
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.schemas import held_to
from polysilicon.runtime.pools import RunningPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an answer must be.

    Attributes:
        schema: of the answer; None where it is free.
        chosen: the tools that may be called.
        told: whether the request speaks of tools, so that the engine must be told of them.
        grammar: of the schema, for engines here.
    """

    schema: Json | None = None
    chosen: tools.Choice = field(default_factory=lambda: tools.Choice([], must=False))
    told: bool = False
    grammar: str | None = None


def wanted(body: ChatBody) -> Wanted:
    """Return what is wanted, without its grammar.

    Raises:
        ApiError: 400; it asks for what such engines cannot do.
    """
    if (body.n or 1) > 1:
        raise ApiError(400, "this engine gives one answer to a request", param="n")
    schema = bodies.wanted_schema(body.response_format)
    if not body.tools and not any(m.role == "tool" or m.tool_calls for m in body.messages):
        return Wanted(schema=schema)
    chosen = tools.choice(body.tools or [], body.tool_choice)
    return Wanted(schema=tools.schema(chosen, schema), chosen=chosen, told=True)


async def compiled(body: ChatBody) -> Wanted:
    """Return what is wanted, with a grammar in which each of the tools can be called.

    Raises:
        ApiError: 400; it asks for what the engine here cannot do, or cannot be held to.
    """
    found = wanted(body)
    if found.schema is None:
        return found
    names = [tool.function.name for tool in body.tools or ()]
    for tool in found.chosen.tools:
        place = f"tools[{names.index(tool.function.name)}].function.parameters"
        await held_to(tool.function.parameters, place)
    return replace(found, grammar=await held_to(found.schema, "response_format"))


async def beforehand(body: ChatBody, pools: Sequence[RunningPool]) -> Wanted | ApiError | None:
    """Return what engines here are to be asked, or why they cannot be; None where none may be.

    Raises:
        ApiError: 400; no other pool can take the call either.
    """
    if not any(pool.in_process for pool in pools):
        return None
    try:
        return await compiled(body)
    except ApiError as refused:
        if all(pool.in_process for pool in pools):
            raise
        return refused
