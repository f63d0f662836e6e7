"""llama.cpp in this process, through the package xllamacpp.

Continuous batching over `concurrency` slots, prefix cache within and across slots, JSON-schema
grammars, streaming. A step that is cancelled ends at its next token.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.errors import EngineError, InputError
from polysilicon.runtime.engines.native.call import Asked, Call, Served
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.native.grammars import fault_of
from polysilicon.runtime.engines.native.library import use
from polysilicon.runtime.engines.native.memory import check_slots, free_bytes, has_states
from polysilicon.runtime.engines.native.opening import opening, takes_openings
from polysilicon.runtime.engines.native.slots import Slots
from polysilicon.runtime.models import check_gguf, model_name
from polysilicon.runtime.types import ChatRequest, ChatResult, EmbedResult, OnToken

try:
    import xllamacpp
except ImportError as error:  # slim systems lack the library of OpenMP
    mend = "install what is missing, such as by `apt-get install libgomp1`"
    raise InputError(f"the engine cannot be loaded: {error}", mend=mend) from error

_PROMPT_CACHE_MIB = 512
_ADAPTERS = 2
"""Adapters that are kept loaded: the newest, and the one that is under way still."""

_LOOKUP_TOKENS, _GUESS_TOKENS = 4, 8
"""Tokens that must have come before, and how many of what followed them then are guessed."""
_QUIET = -1
# One space and no line breaks: a third fewer tokens than JSON as models like to lay it out.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class LlamaCpp:
    """The local engine.

    Args:
        path: a GGUF file.
        concurrency: sequences decoded at once (slots).
        context_tokens: prompt and output of one sequence, at most.
        threads: threads that compute; all cores by default.
        setup: kernels, weights, threads, micro-batch and prompt lookup; the wheel's kernels,
            the file's own weights and `threads` where None.

    Raises:
        InputError: the file is missing, broken, cannot be loaded, or memory has no room for as many
            slots.
        EngineError: the kernels of `setup` cannot be used.

    Attributes:
        slots: which of its sequences are busy; for whoever asks by the endpoint at `address`.
    """

    name = "llama.cpp"

    def __init__(
        self,
        path: Path,
        *,
        concurrency: int = 8,
        context_tokens: int = 2048,
        threads: int | None = None,
        setup: Setup | None = None,
    ) -> None:
        check_gguf(path)
        self.model = model_name(path)
        self.concurrency = concurrency
        self.context_tokens = context_tokens
        self._setup = setup or Setup(threads=threads or os.cpu_count() or 1)
        self._path = self._setup.weights or path
        packs = self._setup.kernels is not None
        check_slots(self._path, concurrency, context_tokens, free_bytes(), packs=packs)
        self._opens, self._resumes = takes_openings(self._path), not has_states(self._path)
        self._key = secrets.token_hex(16)
        self._server = self._start(embedding=False)
        self.slots = Slots(concurrency)
        self._embedder: Any = None
        self._embedder_lock = threading.Lock()
        self._adapted: OrderedDict[_AdapterKey, Served] = OrderedDict()
        self._adapted_lock = threading.Lock()
        self._workers = ThreadPoolExecutor(concurrency, thread_name_prefix="llama")

    def _start(self, *, embedding: bool, adapter: str | None = None) -> Any:
        """Load the model; a second server of the same file embeds, as pooling differs."""
        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.model_alias = {self.model}
        params.n_parallel = 1 if embedding else self.concurrency
        params.n_ctx = self.context_tokens * params.n_parallel
        params.cpuparams.n_threads = self._setup.alone_threads or self._setup.threads
        params.cpuparams_batch.n_threads = self._setup.threads
        params.n_batch = self._setup.batch
        params.n_ubatch = self._setup.micro_batch
        params.cache_ram_mib = 0 if embedding else _PROMPT_CACHE_MIB
        params.verbosity = _QUIET
        params.api_keys = [self._key]  # its loopback port is for nobody but this process
        if adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
        if embedding:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            params.n_ubatch = params.n_batch = self.context_tokens
        elif self._setup.prompt_lookup:
            params.speculative.types = [
                xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE
            ]
            params.speculative.ngram_simple.size_n = _LOOKUP_TOKENS
            params.speculative.ngram_simple.size_m = _GUESS_TOKENS
        use(self._setup.kernels)
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            mend = "the file may be cut or of a newer format; pull it again"
            raise InputError(
                "llama.cpp cannot load the model", where=str(self._path), mend=mend
            ) from error

    @property
    def threads(self) -> int:
        """Threads that compute while there are requests."""
        return self._setup.threads

    @property
    def address(self) -> str:
        """Base URL of the engine's own OpenAI-compatible endpoint on loopback."""
        return f"{self._server.listening_address}/v1"

    @property
    def key(self) -> str:
        """The key that the endpoint at `address` asks for."""
        return self._key

    async def chat(self, request: ChatRequest, on_token: OnToken | None = None) -> ChatResult:
        """Answer `request`; see `Engine.chat`."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        served = partial(self._with, request.adapter)
        asked = _asked(request, self.model, opens=self._opens, resumes=self._resumes)
        call = Call(served, asked, stop, on_token, loop)
        future = loop.run_in_executor(self._workers, call.run)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            raise
        return call.result(request.schema is not None)

    def _with(self, adapter: str | None) -> Served:
        """Return the server that adds an adapter, which is started at its first use.

        A few are kept, the last used ones; requests under way keep theirs until they end. Kernels
        share the file's pages, so one costs its working memory alone.

        Raises:
            EngineError: the adapter cannot be loaded.
        """
        if adapter is None:
            return Served(self._server, self.slots)
        key = _adapter_key(adapter)
        with self._adapted_lock:
            served = self._adapted.pop(key, None)
            if served is None:
                try:
                    check_gguf(Path(adapter))
                    server = self._start(embedding=False, adapter=adapter)
                except InputError as error:
                    raise _no_adapter(adapter) from error
                served = Served(server, Slots(self.concurrency))
            self._adapted[key] = served
            while len(self._adapted) > _ADAPTERS:
                self._adapted.popitem(last=False)
            return served

    async def embed(self, texts: Sequence[str]) -> EmbedResult:
        """Return the mean of the last hidden states of each text; see `Engine.embed`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, self._embed, list(texts))

    def _embed(self, texts: list[str]) -> EmbedResult:
        with self._embedder_lock:
            if self._embedder is None:
                self._embedder = self._start(embedding=True)
        reply = self._embedder.handle_embeddings({"input": texts})
        if "error" in reply:
            raise EngineError(f"llama.cpp: {reply['error']['message']}", of_request=True)
        rows = sorted(reply["data"], key=lambda row: row["index"])
        usage = reply.get("usage", {})
        return EmbedResult(
            vectors=[row["embedding"] for row in rows],
            prompt_tokens=usage.get("prompt_tokens", 0),
        )

    async def close(self) -> None:
        """End the threads and free the model."""
        await asyncio.to_thread(self._workers.shutdown, wait=True, cancel_futures=True)
        self._server = self._embedder = None
        self._adapted.clear()


_AdapterKey = tuple[str, int, int]
"""Path, bytes and time of change (ns): a file that was written anew is another adapter."""


def _adapter_key(adapter: str) -> _AdapterKey:
    """Return what an adapter is known by.

    Raises:
        EngineError: it is no regular file; to open another kind may block, or do worse.
    """
    try:
        found = Path(adapter).stat()
    except (OSError, ValueError) as error:
        raise _no_adapter(adapter) from error
    if not stat.S_ISREG(found.st_mode):
        raise _no_adapter(adapter)
    return adapter, found.st_size, found.st_mtime_ns


def _no_adapter(adapter: str) -> EngineError:
    """Return the error of any adapter that cannot be used; it does not tell which files exist."""
    return EngineError(f"adapter {adapter}: no such adapter of this model", of_request=True)


def _asked(request: ChatRequest, model: str, *, opens: bool, resumes: bool) -> Asked:
    """Return what to ask, with the request's schema as a grammar of compact JSON.

    Args:
        request: the request.
        model: its name.
        opens: whether the model goes on with an answer that was begun for it.
        resumes: whether it does so from what it has read already.

    Raises:
        EngineError: the schema is not one that llama.cpp understands.
    """
    body = request_body(request, model)
    if request.schema is None:
        return Asked(body=body)
    del body["response_format"]
    try:
        whole = compact_grammar(request.schema)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"llama.cpp: bad schema: {error}", of_request=True) from error
    body["grammar"] = whole
    body["timings_per_token"] = True  # they hold the numbers of tokens so far
    if request.stop:  # it may cut what is forced
        return Asked(body=body)
    begun = opening(request.schema, _COMPACT) if opens else None
    is_begun = any(message["role"] == "assistant" for message in request.messages[-1:])
    if begun is None or is_begun or fault_of(begun.grammar):
        return Asked(body=body, grammar=whole)
    body["grammar"] = begun.grammar
    body["messages"] = [*body["messages"], {"role": "assistant", "content": begun.text}]
    seams = begun.seams if resumes else ()
    return Asked(body=body, opening=begun.text, grammar=whole, seams=seams)


def compact_grammar(schema: dict[str, Any]) -> str:
    """Return a JSON schema as a grammar of compact JSON.

    Raises:
        RuntimeError, ValueError: it is not one that llama.cpp understands, or nothing satisfies it.
    """
    text = msgspec.json.encode({**schema, "x-guidance": _COMPACT}).decode()
    grammar: str = xllamacpp.json_schema_to_grammar(text)
    fault = fault_of(grammar)
    if fault:
        raise ValueError(fault)
    return grammar


def request_body(request: ChatRequest, model: str) -> dict[str, Any]:
    """Return the body of an OpenAI chat completion request, streamed, for `request`."""
    body: dict[str, Any] = {
        "model": request.model or model,
        "messages": list(request.messages),
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        form = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body
