"""What tools ask of a pool, and what comes of it: the contract between contexts and executors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from polysilicon.runtime.types import Limits

Lane = Literal["cpu", "wait", "engine"]
"""What a job takes at its machine: a core, nothing but patience, or a slot of the engine."""


@dataclass(frozen=True, slots=True)
class Call:
    """A module-level function in a worker process, which is killed past `timeout_s`.

    One that `keeps` loads much that the next one needs, too, and goes where the last one did.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    timeout_s: float
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Await:
    """An `async def` function, awaited in the executor's process: for waiting on a network."""

    fn: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Code:
    """Code that nobody trusts, in a sandbox known by its name."""

    sandbox: str
    code: str
    inputs: Mapping[str, Any]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Search:
    """The `k` best documents of the index in `folder`."""

    folder: Path
    query: str
    k: int


@dataclass(frozen=True, slots=True)
class Words:
    """Vectors of texts by the lexical embedder."""

    texts: Sequence[str]


Job = Call | Await | Code | Search | Words


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job.

    Attributes:
        result: what it returned, as JSON types, a struct, or `msgspec.Raw`.
        cpu_s: core-seconds that it used.
        wait_s: seconds in which it waited for something else than a core; None where unknown.
        begin_s: when it was taken up, by this process's `time.monotonic`; None where it did not
            have to wait for that, or nobody knows.
        end_s: when it had ended, likewise.
        startup_s: of its sandbox.
        memory_bytes: peak memory, where its sandbox tells.
    """

    result: Any
    cpu_s: float
    wait_s: float | None = None
    begin_s: float | None = None
    end_s: float | None = None
    startup_s: float | None = None
    memory_bytes: int | None = None


class Executor(Protocol):
    """Does the jobs of a pool: on this machine, or on others.

    Cancelling the awaiting task ends the work, too.
    """

    async def run(self, job: Job, *, front: bool = False) -> Done:
        """Do a job.

        Args:
            job: what.
            front: somebody waits for it, so that it goes before others and yields to none.

        Raises:
            InputError: it cannot be done there as it was asked.
            StepError: it failed.
        """
        ...

    async def close(self) -> None:
        """End all that it has started."""
        ...
