"""Who calls: keys with budgets, rate limits and allowed pools, from a TOML file of hashed keys.

Example:
    [[key]]
    name = "ci"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    budget_usd = 25.0
    period = "month"
    requests_per_min = 600
    pools = ["here", "gpu-*"]

Keys are made by `polysilicon serve keys`; they are 256 random bits, so that a plain hash is enough.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec

from polysilicon.disk import read_toml, toml_bytes, write_whole
from polysilicon.errors import InputError
from polysilicon.gateway.errors import ApiError

NOBODY = "local"
"""Name of whoever calls without a key, from this machine."""

_PREFIX = "ps-"
_MEND = "see docs/serve.md"
_WEIGHT = 0.2


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key of the file.

    Attributes:
        name: what the key is called in logs, tables and budgets.
        sha256: of the key, in hexadecimal.
        budget_usd: dollars it may spend in a period; None for no limit.
        period: what a budget is for.
        requests_per_min: calls a minute; None for no limit.
        at_once: calls at once, tasks from their acceptance to their end among them; None for no
            limit.
        pools: patterns of pools that may take its steps.
        admin: it may see what others do: the dashboard, metrics, tasks of other keys.
        join: it may join machines as pools.
        code: it may have code run in this machine's sandboxes: the key that a machine which joins
            makes for its gateway.
    """

    name: str
    sha256: str
    budget_usd: float | None = None
    period: Literal["day", "month", "total"] = "month"
    requests_per_min: float | None = None
    at_once: int | None = None
    pools: tuple[str, ...] = ("*",)
    admin: bool = False
    join: bool = False
    code: bool = False


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of keys."""

    key: tuple[Key, ...] = ()


class Caller:
    """Whoever has a key, while the gateway runs.

    Args:
        key: of the file.
        clock: seconds, steady.

    Attributes:
        running: calls under way.
        spent_usd: dollars in this period.
        elsewhere_usd: dollars in this period at other gateways, as far as they have told.
    """

    def __init__(self, key: Key, clock: Callable[[], float] = time.monotonic) -> None:
        self.key = key
        self.running = 0
        self.spent_usd = self.elsewhere_usd = 0.0
        self.period = ""
        self._mean_usd = 0.0
        self._clock = clock
        self._room = key.requests_per_min or math.inf
        self._at_s = clock()

    @property
    def name(self) -> str:
        """The key's name."""
        return self.key.name

    def may_use(self, pool: str) -> bool:
        """Tell whether a pool may take the caller's steps."""
        return any(fnmatchcase(pool, pattern) for pattern in self.key.pools)

    def only(self, pools: Iterable[str]) -> frozenset[str] | None:
        """Return those of some pools that may take the caller's steps; None where all may."""
        every = list(pools)
        allowed = frozenset(pool for pool in every if self.may_use(pool))
        return None if len(allowed) == len(every) else allowed

    @property
    def left_usd(self) -> float:
        """Dollars left of the budget in this period; infinite without a budget."""
        if self.key.budget_usd is None:
            return math.inf
        self.renew()
        return self.key.budget_usd - self.all_usd

    @property
    def all_usd(self) -> float:
        """Dollars spent in this period, at all gateways."""
        return self.spent_usd + self.elsewhere_usd

    def spend(self, usd: float | None) -> None:
        """Count dollars that a step cost."""
        self.renew()
        if usd:
            self.spent_usd += usd
            self._mean_usd += (usd - self._mean_usd) * (_WEIGHT if self._mean_usd else 1.0)

    def check_budget(self) -> None:
        """Raise `ApiError` (429) where the budget is spent."""
        if self.left_usd <= 0:
            key = self.key
            text = f"the budget of key {key.name!r} is spent: ${key.budget_usd:g} a {key.period}"
            text = text.replace(" a total", " in total")
            raise ApiError(429, text, code="insufficient_quota")

    def admit(self) -> None:
        """Count one more call, or refuse it.

        Raises:
            ApiError: 429; the rate, the calls at once, or the budget are used up.
        """
        key = self.key
        self.check_budget()
        if self.running and self.running * self._mean_usd >= self.left_usd:
            text = f"the calls of key {key.name!r} under way may cost what its budget has left"
            raise ApiError(429, text, code="rate_limit_exceeded", retry_after_s=1)
        if key.at_once is not None and self.running >= key.at_once:
            text = f"key {key.name!r} has {self.running} calls under way, as many as it may"
            raise ApiError(429, text, code="rate_limit_exceeded", retry_after_s=1)
        rate = key.requests_per_min
        if rate is not None:
            now_s = self._clock()
            self._room = min(rate, self._room + (now_s - self._at_s) * rate / 60)
            self._at_s = now_s
            if self._room < 1:
                text = f"key {key.name!r} may make {rate:g} requests a minute"
                wait_s = (1 - self._room) * 60 / rate
                raise ApiError(429, text, code="rate_limit_exceeded", retry_after_s=wait_s)
            self._room -= 1

    def renew(self) -> None:
        """Begin a new period where one has begun."""
        period = _period(self.key.period)
        if period != self.period:
            self.period, self.spent_usd, self.elsewhere_usd = period, 0.0, 0.0


def _period(kind: str) -> str:
    """Return the name of the present period, by UTC."""
    form = {"day": "%Y-%m-%d", "month": "%Y-%m"}.get(kind)
    return datetime.now(UTC).strftime(form) if form else "total"


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a key had spent in a period; a line of the gateway's `spent.json`."""

    period: str
    usd: float


class Access:
    """All callers.

    Args:
        path: file of keys; None lets everybody in as `local`, which only a gateway on loopback may.
        spent: file that what is spent is kept in.

    Raises:
        InputError: the file is wrong.
    """

    def __init__(self, path: Path | None, spent: Path) -> None:
        self._path, self._kept_in = path, spent
        self.open = path is None
        self._by_hash: dict[str, Caller] = {}
        self.nobody = Caller(Key(name=NOBODY, sha256="", admin=True, join=True))
        self._saved: dict[str, Spent] = {}
        if spent.exists():
            try:
                self._saved = msgspec.json.decode(spent.read_bytes(), type=dict[str, Spent])
            except (OSError, msgspec.DecodeError) as error:
                raise InputError(f"cannot be read: {error}", where=str(spent)) from error
        self.read()

    @property
    def callers(self) -> list[Caller]:
        """All callers, in the order of the file."""
        return [self.nobody] if self.open else list(self._by_hash.values())

    def read(self) -> None:
        """Read the file of keys, also anew: what was spent and is under way stays counted.

        Raises:
            InputError: the file is wrong; the keys stay as they were.
        """
        if self._path is None:
            self._restore(self.nobody)
            return
        before = {caller.name: caller for caller in self._by_hash.values()}
        found = {}
        for key in read_keys(self._path).key:
            caller = before.get(key.name)
            if caller is None:
                caller = Caller(key)
                self._restore(caller)
            caller.key = key
            found[key.sha256.lower()] = caller
        self._by_hash = found

    def _restore(self, caller: Caller) -> None:
        kept = self._saved.get(caller.name)
        if kept is not None:
            caller.period, caller.spent_usd = kept.period, kept.usd

    def spent(self) -> dict[str, Spent] | None:
        """Return what was spent, where that is not yet kept."""
        now = {c.name: Spent(period=c.period, usd=c.spent_usd) for c in self.callers if c.period}
        return None if all(self._saved.get(name) == one for name, one in now.items()) else now

    def save(self, spent: dict[str, Spent] | None) -> None:
        """Keep what was spent; this waits for the disk.

        Raises:
            PolysiliconError: it cannot be written.
        """
        if spent is not None:
            kept = self._saved | spent
            write_whole(self._kept_in, msgspec.json.encode(kept) + b"\n")
            self._saved = kept

    def caller(self, authorization: str | None) -> Caller:
        """Return who calls, by the request's Authorization header.

        Raises:
            ApiError: 401; there is no key, or nobody has it.
        """
        if self.open:
            return self.nobody
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            text = "no key: send `Authorization: Bearer KEY`"
            raise ApiError(401, text, code="invalid_api_key")
        caller = self._by_hash.get(sha256_of_key(key.strip()))
        if caller is None:
            raise ApiError(401, "nobody has this key", code="invalid_api_key")
        return caller


def sha256_of_key(key: str) -> str:
    """Return what the file holds of a key."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def new_key() -> str:
    """Return a key: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def add_key(path: Path, name: str, **limits: Any) -> str:
    """Make a key, add it to a file, which is made where none is, and return it.

    Args:
        path: the file.
        name: of the key.
        **limits: other fields of `Key`.

    Raises:
        InputError: the file is wrong, or has a key of this name.
    """
    key = new_key()
    before = read_keys(path) if path.exists() else KeyFile()
    if any(known.name == name for known in before.key):
        raise InputError(f"there is a key {name!r}", where=str(path), mend="take it out first")
    made = Key(name=name, sha256=sha256_of_key(key), **limits)
    write_whole(path, toml_bytes(KeyFile(key=(*before.key, made))))
    return key


def read_keys(path: Path) -> KeyFile:
    """Read a file of keys.

    Raises:
        InputError: no such file, not TOML, or keys that cannot be.
    """
    file = read_toml(path, KeyFile, mend=_MEND)
    for key in file.key:
        where = f"{path}, key {key.name!r}"
        if sum(other.name == key.name for other in file.key) > 1:
            raise InputError("two keys have this name", where=where)
        if len(key.sha256) != 64 or set(key.sha256.lower()) - set("0123456789abcdef"):
            mend = "make one with `polysilicon serve keys`"
            raise InputError("sha256 is not 64 hexadecimal digits", where=where, mend=mend)
        limits = (key.budget_usd, key.requests_per_min, key.at_once)
        if any(limit is not None and not 0 <= limit < math.inf for limit in limits):
            raise InputError("limits are numbers from 0", where=where)
        if key.requests_per_min is not None and key.requests_per_min < 1:
            raise InputError("requests_per_min is at least 1", where=where)
    return file
