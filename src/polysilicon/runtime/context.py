"""What an agent calls: each call is a step, scheduled, journaled and metered."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from polysilicon.errors import InputError, ToolError
from polysilicon.runtime.engines.lexical import embed as embed_words
from polysilicon.runtime.executor import IDEMPOTENCY_KEY, has_effects, importable_name
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import Scope, StepCall, Usage
from polysilicon.runtime.together import together
from polysilicon.runtime.types import (
    ChatRequest,
    ChatResult,
    CodeResult,
    EmbedResult,
    Hit,
    Limits,
    Message,
    Trained,
)

In = TypeVar("In")
Out = TypeVar("Out")

DEFAULT_SANDBOX = "monty"
LEXICAL = "lexical-256"
_CHAT_TIMEOUT_S = 300.0
_TOOL_TIMEOUT_S = 120.0
_TRAIN_TIMEOUT_S = 3600.0
_MAP_LIMIT = 32
_SANDBOX_GRACE_S = 10.0


class Context:
    """A task's way to make steps; a new one for each item of `map`.

    Agents must be deterministic given the results of their steps: on resumption they run again, and
    steps that ended give their journaled results. So use `rng`, and no clock.

    Attributes:
        task_id: the task's id.
        agent: the agent's name.
        folder: the agent's folder in the run.
        rng: random numbers, seeded by the task's id.
    """

    def __init__(self, resources: Resources, scope: Scope, folder: Path) -> None:
        self._resources = resources
        self._scope = scope
        self.task_id = scope.task.task_id
        self.agent = scope.task.agent
        self.folder = folder
        self.rng = random.Random(f"{scope.task.task_id}/{scope.path}")  # noqa: S311 - no secret
        self._maps = 0

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        name: str = "chat",
        model: str | None = None,
        timeout_s: float = _CHAT_TIMEOUT_S,
        retries: int = 1,
        on_token: Callable[[str], None] | None = None,
        **options: Any,
    ) -> ChatResult:
        """Ask a model.

        Args:
            messages: the conversation so far.
            name: the operation, as in the step record.
            model: model name; the run's by default.
            timeout_s: limit of one attempt.
            retries: further attempts after a failure.
            on_token: called with each piece of text as it comes (not on replay).
            **options: further fields of `ChatRequest`, such as `schema` and `max_tokens`.

        Raises:
            StepError: it failed.
            InputError: an option is wrong, or no pool serves the model.
        """
        raw = {"messages": [dict(m) for m in messages], **options}
        try:
            request = msgspec.convert(raw, ChatRequest)
        except msgspec.ValidationError as error:
            raise InputError(f"ctx.chat {name!r}: {error}") from error

        async def work(pool: RunningPool, usage: Usage) -> ChatResult:
            assert pool.engine is not None

            def first_token(text: str) -> None:
                if usage.first_token_s is None:
                    usage.first_token_s = self._resources.clock()
                if on_token is not None:
                    on_token(text)

            async with self._resources.engine_cpu(pool, usage):
                result = await pool.engine.chat(request, first_token)
            usage.prompt_tokens = result.prompt_tokens
            usage.cached_tokens = result.cached_tokens
            usage.output_tokens = result.output_tokens
            return result

        call = StepCall(
            kind="llm",
            name=name,
            model=model or self._resources.model,
            resource="engine",
            arguments=request,
            timeout_s=timeout_s,
            retries=retries,
            hedge=on_token is None,
        )
        return await self._resources.runner.run(self._scope, call, work, ChatResult)

    async def _in_thread(self, work: Callable[[], Out], usage: Usage) -> Out:
        """Do a tool's work in a thread of this process, and meter it."""

        def metered() -> tuple[Out, float, float, float]:
            begin_s, cpu_begin_s = time.monotonic(), time.thread_time()
            result = work()
            return result, time.thread_time() - cpu_begin_s, begin_s, time.monotonic()

        result, cpu_s, begin_s, end_s = await asyncio.to_thread(metered)
        self._resources.cpu.exclude(cpu_s)
        usage.cpu_s, usage.cores = cpu_s, 1
        self._ran(usage, begin_s, end_s)
        return result

    def _ran(self, usage: Usage, begin_s: float, end_s: float) -> None:
        """Note when work began and ended, told by `time.monotonic`, in seconds of the run."""
        later_s = self._resources.clock() - time.monotonic()
        usage.began_s, usage.ended_s = begin_s + later_s, end_s + later_s

    async def embed(
        self,
        texts: Sequence[str],
        *,
        name: str = "embed",
        model: str | None = None,
        timeout_s: float = _CHAT_TIMEOUT_S,
    ) -> list[list[float]]:
        """Return a vector for each text.

        Args:
            texts: what to embed.
            name: the operation, as in the step record.
            model: a model that a pool serves; by default the lexical embedder of this machine.
            timeout_s: limit.

        Raises:
            StepError: it failed.
        """
        lexical = model is None or model == LEXICAL

        def count_words() -> EmbedResult:
            return EmbedResult(vectors=embed_words(texts))

        async def work(pool: RunningPool, usage: Usage) -> EmbedResult:
            if lexical:
                return await self._in_thread(count_words, usage)
            assert pool.engine is not None
            async with self._resources.engine_cpu(pool, usage):
                result = await pool.engine.embed(texts)
            usage.prompt_tokens = result.prompt_tokens or None
            return result

        call = StepCall(
            kind="embed",
            name=name,
            model=model or LEXICAL,
            resource="cpu" if lexical else "engine",
            arguments=list(texts),
            timeout_s=timeout_s,
        )
        result = await self._resources.runner.run(self._scope, call, work, EmbedResult)
        return result.vectors

    async def run_code(
        self,
        code: str,
        *,
        name: str = "code",
        inputs: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        sandbox: str | None = None,
    ) -> CodeResult:
        """Run Python code in a sandbox; its errors are results, not exceptions.

        Args:
            code: what to run.
            name: the operation, as in the step record.
            inputs: variables that the code finds.
            limits: time, memory and output that it may use.
            sandbox: `monty` (default) or `bubblewrap`.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        bounds = limits or Limits()
        box = self._resources.sandbox(sandbox or DEFAULT_SANDBOX, front=self._scope.task.waited_for)

        async def work(_pool: RunningPool, usage: Usage) -> CodeResult:
            result = await box.run(code, inputs or {}, bounds)
            usage.cpu_s, usage.cores = result.cpu_s, 1
            usage.startup_s, usage.memory_bytes = result.startup_s, result.memory_bytes
            return result

        call = StepCall(
            kind="tool",
            name=name,
            arguments=[box.name, code, inputs, bounds],
            timeout_s=bounds.time_s + _SANDBOX_GRACE_S,
        )
        return await self._resources.runner.run(self._scope, call, work, CodeResult)

    async def search(
        self, index: str, query: str, *, k: int = 5, name: str = "search"
    ) -> list[Hit]:
        """Return the `k` best documents of an index that the agent's `prepare` built, best first.

        Raises:
            InputError: there is no such index.
        """
        opened = self._resources.index(self.folder / "indexes" / index)

        async def work(_pool: RunningPool, usage: Usage) -> list[Hit]:
            return await self._in_thread(lambda: opened.search(query, k), usage)

        call = StepCall(
            kind="tool", name=name, arguments=[index, query, k], timeout_s=_TOOL_TIMEOUT_S
        )
        return await self._resources.runner.run(self._scope, call, work, list[Hit])

    async def call(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        timeout_s: float = _TOOL_TIMEOUT_S,
        retries: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Call a module-level function in a worker process and return its result (JSON types).

        An `async def` function is awaited in this process instead: for waiting on a network.

        A function with a parameter `idempotency_key` has effects outside: it gets a text that is
        the same however often this step is tried, also on resumption, and of no other step.

        Raises:
            ToolError: it raised; the text is the exception's type and message.
            StepTimeoutError: it ran past `timeout_s`; its process was killed.
        """
        module, function = importable_name(fn)
        waits = asyncio.iscoroutinefunction(fn)
        effects = has_effects(fn)

        async def work(_pool: RunningPool, usage: Usage) -> Any:
            given = ({IDEMPOTENCY_KEY: usage.idempotency_key} if effects else {}) | kwargs
            if waits:
                return await _await_tool(fn, args, given, usage)
            return await self._by_worker(fn, args, given, timeout_s, usage)

        call = StepCall(
            kind="tool",
            name=name or fn.__name__,
            resource="wait" if waits else "cpu",
            arguments=[module, function, args, kwargs],
            timeout_s=timeout_s + _SANDBOX_GRACE_S,
            retries=retries,
            effects=effects,
        )
        return await self._resources.runner.run(self._scope, call, work, Any)

    async def _by_worker(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout_s: float,
        usage: Usage,
    ) -> msgspec.Raw:
        """Call a function in a worker process, and meter it; return its result, encoded."""
        usage.cores = 1
        workers = self._resources.workers_for(self._scope.task)
        result = await workers.call(fn, args, kwargs, timeout_s)
        usage.cpu_s = (usage.cpu_s or 0.0) + result.cpu_s
        if result.wait_s is not None:
            usage.wait_s = (usage.wait_s or 0.0) + result.wait_s
        self._ran(usage, result.begin_s, result.end_s)
        return msgspec.Raw(result.data)

    async def train(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        model: str,
        name: str = "lora",
        threads: int = 1,
        timeout_s: float = _TRAIN_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Train a model by a module-level function in a worker process; return its result.

        Args:
            fn: returns a dictionary (JSON types) with `tokens`: how many were trained on.
            *args: of the function.
            model: what is trained, as in the step record.
            name: the operation; one that begins with `lora` trains adapters.
            threads: that it computes with.
            timeout_s: limit.

        Raises:
            ToolError: it raised, or does not tell its tokens.
            StepTimeoutError: it ran past `timeout_s`; its process was killed.
        """
        module, function = importable_name(fn)

        async def work(_pool: RunningPool, usage: Usage) -> Any:
            result = await self._by_worker(fn, args, {}, timeout_s, usage)
            usage.cores = threads
            try:
                usage.prompt_tokens = msgspec.msgpack.decode(result, type=Trained).tokens
            except msgspec.ValidationError as error:
                raise ToolError(f"{function} does not tell its tokens: {error}") from error
            return result

        call = StepCall(
            kind="train",
            name=name,
            model=model,
            arguments=[module, function, args],
            timeout_s=timeout_s + _SANDBOX_GRACE_S,
        )
        return await self._resources.runner.run(self._scope, call, work, dict[str, Any])

    async def map(
        self,
        fn: Callable[[Context, In], Awaitable[Out]],
        items: Iterable[In],
        *,
        limit: int = _MAP_LIMIT,
    ) -> list[Out]:
        """Await `fn(ctx_of_item, item)` for each item, at most `limit` at once; results in order.

        Items are taken as room comes, so `items` may be a generator. The first failure cancels the
        rest and is raised.
        """
        numbered = enumerate(items)
        self._maps += 1
        base = f"{self._scope.path}{self._maps}:"
        results: dict[int, Out] = {}
        ends: dict[int, tuple[str, ...]] = {}
        start = self._scope.frontier

        async def line() -> None:
            for index, item in numbered:
                scope = Scope(self._scope.task, f"{base}{index}/", start)
                results[index] = await fn(Context(self._resources, scope, self.folder), item)
                ends[index] = scope.frontier

        async with together() as group:
            for _ in range(max(1, limit)):
                group.create_task(line())
        followed = {step for frontier in ends.values() for step in frontier if step not in start}
        if followed:
            # Steps of this scope that ended beside the map stay in the frontier.
            beside = {step for step in self._scope.frontier if step not in start}
            self._scope.frontier = tuple(sorted(followed | beside))
        return [results[index] for index in range(len(results))]


async def _await_tool(
    fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any], usage: Usage
) -> Any:
    """Await an `async def` tool in this process; its time counts as waiting."""
    begin_s = time.monotonic()
    try:
        return await fn(*args, **kwargs)
    except Exception as error:
        raise ToolError(f"{type(error).__name__}: {error}") from error
    finally:
        usage.wait_s = (usage.wait_s or 0.0) + time.monotonic() - begin_s
        usage.cpu_s = 0.0
