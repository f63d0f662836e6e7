"""What an agent calls: each call is a step, scheduled, journaled and metered."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from polysilicon.errors import InputError, ToolError
from polysilicon.runtime.executor import (
    IDEMPOTENCY_KEY,
    has_effects,
    has_parameter,
    importable_name,
)
from polysilicon.runtime.jobs import Await, Call, Code, Job, Search, Words
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

if TYPE_CHECKING:  # see scope.py
    from polysilicon.runtime.pools import RunningPool
    from polysilicon.runtime.resources import Resources

In = TypeVar("In")
Out = TypeVar("Out")

DEFAULT_SANDBOX = "monty"
LEXICAL = "lexical-256"
_CHAT_TIMEOUT_S = 300.0
_TOOL_TIMEOUT_S = 120.0
_TRAIN_TIMEOUT_S = 3600.0
_MAP_LIMIT = 32
_SANDBOX_GRACE_S = 10.0
_FOLDER = "folder"


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
            **options: further fields of `ChatRequest`, such as `schema` and `max_tokens`; an
                `adapter` is looked for from `folder`, so that the run may be moved.

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

            def told(text: str) -> bool:
                if usage.first_token_s is None:
                    usage.first_token_s = self._resources.clock()
                if on_token is not None:
                    on_token(text)
                return on_token is not None

            asked = request
            if request.adapter is not None:
                path = str(self.folder.resolve() / request.adapter)
                asked = msgspec.structs.replace(request, adapter=path)
            async with self._resources.engine_cpu(pool, usage, front=self._scope.task.waited_for):
                result = await pool.engine.chat(asked, told)
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
            adapter=request.adapter is not None,
        )
        return await self._resources.runner.run(self._scope, call, work, ChatResult)

    async def _do(self, pool: RunningPool, name: str, job: Job, usage: Usage) -> Any:
        """Have a job done by the pool, and meter it; return its result."""
        front = self._scope.task.waited_for
        usage.cores = 1
        if pool.executor is None:
            quick = pool.cores.quick(self.agent, name)
            try:
                done = await self._resources.here.run(job, front=front, quick=quick)
            except Exception as error:  # of unknown core-seconds, as past its time: not quick
                cpu_s = getattr(error, "cpu_s", None)
                pool.cores.took(self.agent, name, math.inf if cpu_s is None else cpu_s)
                raise
            pool.cores.took(self.agent, name, done.cpu_s)
        else:
            done = await pool.executor.run(job, front=front)
        usage.cpu_s = (usage.cpu_s or 0.0) + done.cpu_s
        if done.wait_s is not None:
            usage.wait_s = (usage.wait_s or 0.0) + done.wait_s
        usage.startup_s, usage.memory_bytes = done.startup_s, done.memory_bytes
        if done.begin_s is not None and done.end_s is not None:
            self._ran(usage, done.begin_s, done.end_s)
        return done.result

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

        async def work(pool: RunningPool, usage: Usage) -> EmbedResult:
            if lexical:
                return cast("EmbedResult", await self._do(pool, name, Words(texts), usage))
            assert pool.engine is not None
            async with self._resources.engine_cpu(pool, usage, front=self._scope.task.waited_for):
                result = await pool.engine.embed(texts)
            usage.prompt_tokens = result.prompt_tokens or None
            return result

        call = StepCall(
            kind="embed", name=name, model=model or LEXICAL,
            resource="cpu" if lexical else "engine", arguments=list(texts), timeout_s=timeout_s,
        )  # fmt: skip
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
        job = Code(sandbox or DEFAULT_SANDBOX, code, inputs or {}, bounds)

        async def work(pool: RunningPool, usage: Usage) -> CodeResult:
            return cast("CodeResult", await self._do(pool, name, job, usage))

        call = StepCall(
            kind="tool",
            name=name,
            sandbox=job.sandbox,
            arguments=[job.sandbox, code, inputs, bounds],
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
        job = Search(self.folder / "indexes" / index, query, k)

        async def work(pool: RunningPool, usage: Usage) -> list[Hit]:
            return cast("list[Hit]", await self._do(pool, name, job, usage))

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

        An `async def` function is awaited in the pool's process instead (this one, unless the pool
        is on other machines): for waiting on a network.

        A function with a parameter `idempotency_key` has effects outside: it gets a text that is
        the same however often this step is tried, also on resumption, and of no other step.

        Raises:
            ToolError: it raised; the text is the exception's type and message.
            StepTimeoutError: it ran past `timeout_s`; its process was killed.
        """
        module, function = importable_name(fn)
        waits = asyncio.iscoroutinefunction(fn)
        effects = has_effects(fn)
        step = name or fn.__name__

        async def work(pool: RunningPool, usage: Usage) -> Any:
            given = ({IDEMPOTENCY_KEY: usage.idempotency_key} if effects else {}) | kwargs
            if waits:
                return await self._waited(pool, Await(fn, args, given), usage)
            return await self._do(pool, step, Call(fn, args, given, timeout_s), usage)

        call = StepCall(
            kind="tool",
            name=step,
            resource="wait" if waits else "cpu",
            arguments=[module, function, args, kwargs],
            timeout_s=timeout_s + _SANDBOX_GRACE_S,
            retries=retries,
            effects=effects,
        )
        return await self._resources.runner.run(self._scope, call, work, Any)

    async def _waited(self, pool: RunningPool, job: Await, usage: Usage) -> Any:
        """Have an `async def` tool awaited; its time counts as waiting."""
        begin_s = time.monotonic()
        try:
            executor, front = self._resources.executor(pool), self._scope.task.waited_for
            return (await executor.run(job, front=front)).result
        finally:
            usage.wait_s = (usage.wait_s or 0.0) + time.monotonic() - begin_s
            usage.cpu_s = 0.0

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

        A function with a parameter `folder` gets the agent's, for its checkpoints; that is no part
        of what names the step, so that the run may be moved.

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
        where = {_FOLDER: str(self.folder.resolve())} if has_parameter(fn, _FOLDER) else {}

        async def work(pool: RunningPool, usage: Usage) -> Any:
            result = await self._do(pool, name, Call(fn, args, where, timeout_s, keeps=True), usage)
            usage.cores = threads
            try:
                told = msgspec.msgpack.decode(result, type=Trained)
                usage.prompt_tokens, usage.startup_s = told.tokens, told.startup_s
            except msgspec.ValidationError as error:
                raise ToolError(f"{function} does not tell its tokens: {error}") from error
            return result

        call = StepCall(
            kind="train",
            name=name,
            model=model,
            arguments=[module, function, args],
            timeout_s=timeout_s + _SANDBOX_GRACE_S,
            width=max(threads, 1),
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
