"""The contracts between the runtime and what plugs into it: engines, sandboxes, search, agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from polysilicon.runtime.context import Context

MAX_RESULT_BYTES = 64 * 2**20
"""Most that a step may return, or a task put out, encoded: the journal keeps it, and memory too."""

Message = Mapping[str, str]
"""One chat message: `{"role": "system" | "user" | "assistant", "content": text}`."""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One LLM call.

    Attributes:
        messages: the conversation so far.
        model: model name; None is the pool's own.
        schema: JSON schema that the answer must match, or None for free text.
        max_tokens: limit on output tokens.
        temperature: 0 is greedy.
        stop: strings that end the answer.
        seed: of the sampler.
        adapter: path of a low-rank adapter (GGUF) that is added to the model; llama.cpp only.
    """

    messages: tuple[dict[str, str], ...]
    model: str | None = None
    schema: dict[str, Any] | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    adapter: str | None = None


class ChatResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a `ChatRequest`.

    Attributes:
        text: what the model wrote.
        data: `text` parsed as JSON where a schema was given and the answer is complete, else None.
        finish_reason: `stop`, `length` or what the engine said.
        prompt_tokens: tokens of the prompt, cached ones included.
        cached_tokens: of these, how many came from the prefix cache.
        output_tokens: tokens generated.
    """

    text: str
    data: Any = None
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


class EmbedResult(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors of texts, all of one length, and the tokens they took (0 where there are none)."""

    vectors: list[list[float]]
    prompt_tokens: int = 0


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What a training function must tell, among whatever else it does.

    Attributes:
        tokens: trained on.
        startup_s: of its seconds, those before it could train.
    """

    tokens: int
    startup_s: float = 0.0


OnToken = Callable[[str], bool | None]
"""Takes pieces of an answer as they come; see `Engine.chat`."""


class Engine(Protocol):
    """Answers `chat` and `embed`; cancelling the awaiting task ends the work in the engine too."""

    name: str
    model: str
    concurrency: int

    async def chat(self, request: ChatRequest, on_token: OnToken | None = None) -> ChatResult:
        """Answer `request`, calling `on_token` with each piece of text as it comes.

        Where `on_token` returns False it wants no more, which spares the engine the telling. It
        may be called a few times still.

        Raises:
            EngineError: the engine refused or failed.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> EmbedResult:
        """Return one vector for each text.

        Raises:
            EngineError: the engine refused or failed.
        """
        ...

    async def close(self) -> None:
        """Free what the engine holds."""
        ...


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sandboxed code may use: CPU and wall seconds, bytes of memory, bytes printed."""

    time_s: float = 10.0
    memory_bytes: int = 256 * 2**20
    output_bytes: int = 64 * 2**10


CodeError = Literal["timeout", "memory", "output", "syntax", "exception"]


class CodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of sandboxed code.

    Attributes:
        ok: it ended without an error.
        stdout: what it printed, cut at the limit.
        value: value of the last expression, as JSON types (monty only, else None).
        error_kind: why it failed, or None.
        error: last line of the error, such as `AssertionError: …`, or None.
        cpu_s: core-seconds that it used.
        startup_s: seconds until the sandbox was ready.
        memory_bytes: peak memory, where the sandbox tells.
    """

    ok: bool
    stdout: str = ""
    value: Any = None
    error_kind: CodeError | None = None
    error: str | None = None
    cpu_s: float = 0.0
    startup_s: float = 0.0
    memory_bytes: int | None = None


class Sandbox(Protocol):
    """Runs Python code that nobody trusts: no files, no network, bounded time and memory."""

    name: str

    async def run(self, code: str, inputs: Mapping[str, Any], limits: Limits) -> CodeResult:
        """Run `code` with `inputs` as variables; cancelling the awaiting task kills the code.

        Raises:
            SandboxError: the sandbox itself could not start or died.
        """
        ...

    async def close(self) -> None:
        """End the sandbox's processes."""
        ...


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text to index; `id` is what citations name."""

    id: str
    title: str = ""
    text: str


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One search result, best first; `score` is BM25."""

    id: str
    title: str
    text: str
    score: float


class Setup(Protocol):
    """What an agent's `prepare` may use, before the first task of a run."""

    folder: Path
    """A folder of this agent in the run, kept with it."""

    async def index(self, name: str, documents: Iterable[Document]) -> None:
        """Build the search index `name`, or keep it where an interrupted run built it already."""
        ...

    async def call(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Call a module-level function in a worker process."""
        ...


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent: an async function that makes steps, and what belongs to it.

    Attributes:
        name: as in the step record.
        run: `await run(ctx, input)` returns the task's output (JSON types).
        prepare: builds indexes and data once a run, before the first task.
        accept: `accept(input)` returns the input as it is kept, such as with whole paths in place
            of those that begin at this process's folder, or raises `InputError` where it is wrong:
            before there is a run, or a gateway's task. None accepts all.
        inputs: sample inputs (JSON objects), so that `demo` and `run` work without a file.
        grade: `grade(input, output)` is 1.0 for the right outcome, 0.0 for the wrong one, None
            where the input does not tell.
        help: one line.
        data_class: what the residency rules of a policy call its data.
    """

    name: str
    run: Callable[[Context, Any], Awaitable[Any]]
    prepare: Callable[[Setup], Awaitable[None]] | None = None
    accept: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    inputs: Callable[[], Iterable[dict[str, Any]]] | None = None
    grade: Callable[[dict[str, Any], Any], float | None] | None = None
    help: str = ""
    data_class: str | None = None


def too_large(what: str, size_bytes: int) -> str:
    """Return the line for a result over `MAX_RESULT_BYTES`."""
    size, limit = size_bytes / 2**20, MAX_RESULT_BYTES / 2**20
    return (
        f"{what} is {size:.0f} MiB, over the limit of {limit:.0f} MiB; "
        "write it to a file and return the path"
    )
