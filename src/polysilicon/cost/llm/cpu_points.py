"""Measured rates of CPUs as points: where each lies among servers, models, prompts and loads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.rates import LlmRate
from polysilicon.catalog.servers import Servers, ServerType
from polysilicon.cost.llm.law import Numbers

Codes = npt.NDArray[np.int64]

KINDS = ("prefill", "decode", "alone", "busy")
"""What a rate is: prompt tokens/s and output tokens/s of llama.cpp; output tokens/s over whole
requests of vLLM, one at a time and many at once."""
LLAMACPP_KINDS = 2

COLUMNS: tuple[tuple[str, str, int, str], ...] = (
    ("prefill_512_tokens_per_s", "prefill", 512, ""),
    ("prefill_4096_tokens_per_s", "prefill", 4096, ""),
    # The benchmark generates after no prompt, so the mean context is half of the output.
    ("decode_128_tokens_per_s", "decode", 64, ""),
    ("decode_512_tokens_per_s", "decode", 256, ""),
    ("output_256_128_tokens_per_s", "alone", 256, ""),
    ("output_1024_256_tokens_per_s", "alone", 1024, ""),
    ("busy_256_128_tokens_per_s", "busy", 256, "busy_256_128_concurrency"),
    ("busy_1024_256_tokens_per_s", "busy", 1024, "busy_1024_256_concurrency"),
)
"""Column of the rates, its kind, its tokens of prompt or context, its column of concurrency."""

OUTPUT_TOKENS = {256: 128, 1024: 256}
"""Output tokens of the requests of vLLM's runs, by their prompt tokens."""

SITE_FIELDS = ("instance", "series", "chip", "family", "isa", "model")


class Points(msgspec.Struct, frozen=True, kw_only=True):
    """Rates by their coordinates; all arrays have one entry a point.

    Attributes:
        instance: code of the server type; -1 of types that were not measured.
        series: code of its series.
        chip: code of its chip.
        family: code of the chip's family.
        isa: code of the chip's instructions.
        model: code of the model; -1 of models that were not measured.
        kind: index into `KINDS`.
        size: log2 of vCPUs.
        held_back: log2 of the vCPUs of the host over those that are usable.
        spans: 1 where it spans several sockets, else 0.
        nodes: 1 where it spans several memory nodes, else 0.
        bare: 1 where no hypervisor divides it, else 0.
        threads: vCPUs of a core.
        bandwidth: log2 of GB/s of a socket.
        thread: log2 of PassMark's rating of one thread.
        caches: log2 of GB/s that all threads read from their first-level caches.
        year: of the chip, from 2020, in units of four years.
        parameters: log2 of those that one token uses, in units of 2^30.
        tokens: log2 of tokens of prompt (prefill, alone, busy) or context (decode).
        concurrency: log2 of requests at once.
    """

    instance: Codes
    series: Codes
    chip: Codes
    family: Codes
    isa: Codes
    model: Codes
    kind: Codes
    size: Numbers
    held_back: Numbers
    spans: Numbers
    nodes: Numbers
    bare: Numbers
    threads: Numbers
    bandwidth: Numbers
    thread: Numbers
    caches: Numbers
    year: Numbers
    parameters: Numbers
    tokens: Numbers
    concurrency: Numbers

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, at: Codes) -> Points:
        """Return the points at some indices."""
        return Points(**{name: getattr(self, name)[at] for name in self.__struct_fields__})


class Vocabulary:
    """Names → codes, of all server types and models, measured or not.

    Args:
        servers: chips and types.
    """

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.instances = {name: code for code, name in enumerate(servers.types)}
        series = dict.fromkeys(t.series for t in servers.types.values())
        self.series = {name: code for code, name in enumerate(series)}
        self.chips = {name: code for code, name in enumerate(servers.chips)}
        families = dict.fromkeys(chip.family for chip in servers.chips.values())
        self.families = {name: code for code, name in enumerate(families)}
        isas = dict.fromkeys(chip.isa for chip in servers.chips.values())
        self.isas = {name: code for code, name in enumerate(isas)}
        self.models: dict[str, int] = {}

    def site(self, server: ServerType) -> dict[str, float]:
        """Return the coordinates of a server; of an unknown chip, those of a plain one."""
        chip = self.servers.chips.get(server.chip)
        score = self.servers.score(server)
        own = len(self.chips) + self.instances.get(server.instance, len(self.instances))
        return {
            "instance": self.instances.get(server.instance, -1),
            "series": self.series.get(server.series, -1),
            "chip": own if chip is None else self.chips[chip.chip],
            "family": own if chip is None else self.families[chip.family],
            "isa": self.isas["avx2"] if chip is None else self.isas[chip.isa],
            "size": math.log2(server.vcpus),
            "held_back": math.log2(server.host_vcpus / server.vcpus),
            "spans": float((server.sockets or 1) > 1),
            "nodes": float((server.numa_nodes or 1) > 1),
            "bare": float(server.bare),
            "threads": _threads(server, 2.0 if chip is None else chip.vcpus_per_core),
            "bandwidth": math.log2(150.0 if chip is None else chip.memory_bandwidth_gbs),
            "thread": math.log2(score.thread_score),
            "caches": math.log2(score.l1_read_gbs),
            "year": ((2020 if chip is None else chip.year) - 2020) / 4,
        }


def _threads(server: ServerType, of_chip: float) -> float:
    """Return vCPUs of a core: some types leave every second thread of the chip unused."""
    return server.vcpus / server.cores if server.cores else of_chip


def gather(
    rates: Iterable[LlmRate], models: Mapping[str, ModelArchitecture], words: Vocabulary
) -> tuple[Points, Numbers, list[tuple[str, str, str, int]]]:
    """Return the points of measured rates of CPUs.

    Args:
        rates: of CPUs and accelerators; the latter are left out.
        models: architectures by name.
        words: codes; models are added to it.

    Returns:
        The points, their log rates, and for each server type, model, kind and tokens.
    """
    sites: dict[str, dict[str, float]] = {}
    columns: dict[str, list[float]] = {name: [] for name in Points.__struct_fields__}
    logs: list[float] = []
    keys: list[tuple[str, str, str, int]] = []
    for rate in rates:
        server = words.servers.types.get(rate.offer)
        if rate.device != "cpu" or server is None or rate.model not in models:
            continue
        if rate.offer not in sites:
            sites[rate.offer] = words.site(server)
        site = sites[rate.offer]
        size = math.log2(models[rate.model].active_parameters) - 30
        code = words.models.setdefault(rate.model, len(words.models))
        for column, kind, tokens, load in COLUMNS:
            value = getattr(rate, column)
            if value is None:
                continue
            many = getattr(rate, load) if load else 1.0
            for name, coordinate in site.items():
                columns[name].append(coordinate)
            columns["model"].append(code)
            columns["kind"].append(KINDS.index(kind))
            columns["parameters"].append(size)
            columns["tokens"].append(math.log2(tokens))
            columns["concurrency"].append(math.log2(max(many or 1.0, 1.0)))
            logs.append(math.log(value))
            keys.append((rate.offer, rate.model, kind, tokens))
    return _points(columns), np.array(logs), keys


def ask(
    server: ServerType,
    model: ModelArchitecture,
    asked: Sequence[tuple[str, int, float]],
    words: Vocabulary,
) -> Points:
    """Return points to be predicted: one model on one server.

    Args:
        server: where.
        model: which.
        asked: kind, tokens and concurrency of each point.
        words: codes.
    """
    site = words.site(server)
    count = len(asked)
    columns: dict[str, list[float]] = {name: [value] * count for name, value in site.items()}
    columns["model"] = [words.models.get(model.name, -1)] * count
    columns["kind"] = [KINDS.index(kind) for kind, _, _ in asked]
    columns["parameters"] = [math.log2(model.active_parameters) - 30] * count
    columns["tokens"] = [math.log2(tokens) for _, tokens, _ in asked]
    columns["concurrency"] = [math.log2(max(many, 1.0)) for _, _, many in asked]
    return _points(columns)


def _points(columns: dict[str, list[float]]) -> Points:
    """Return points of columns; codes are whole numbers."""
    codes = {*SITE_FIELDS, "kind"}
    arrays: dict[str, Any] = {
        name: np.array(values, dtype=np.int64 if name in codes else np.float64)
        for name, values in columns.items()
    }
    return Points(**arrays)


FEATURES: tuple[str, ...] = (
    "one", "p", "p2", "c", "c2", "c3", "pc", "pcc", "ppc", "spans", "spans_p", "nodes",
    "bandwidth", "bandwidth_p", "bandwidth_c", "thread", "thread_p", "thread_c",
    "caches", "caches_p", "caches_c", "threads", "threads_c", "year", "year_p",
    "tokens", "tokens_p", "tokens_c", "load", "load_p", "load_tokens", "load_c", "held_back",
    *(f"{isa}{tail}" for isa in ("neon", "sve", "avx512", "amx") for tail in ("", "_p", "_c")),
)  # fmt: skip
"""Of the law: p is log2 of parameters, c of cores; products are written side by side."""


def features(points: Points, words: Vocabulary) -> Numbers:
    """Return what the law is linear in, shape (points, features).

    The logarithm of a rate bends with the logarithms of parameters and cores: small models lose
    time on synchronising threads, large ones wait for memory, many cores share its bandwidth.
    """
    p = points.parameters
    c = points.size - np.log2(points.threads) - 4.0
    bandwidth, tokens, load = points.bandwidth - 8.0, points.tokens - 8.0, points.concurrency
    thread, caches = points.thread - 11.0, points.caches - 10.0
    threads, year = points.threads - 1.0, points.year
    columns = [
        np.ones(len(points)), p, p * p, c, c * c, c**3, p * c, p * c * c, p * p * c,
        points.spans, points.spans * p, points.nodes,
        bandwidth, bandwidth * p, bandwidth * c,
        thread, thread * p, thread * c, caches, caches * p, caches * c,
        threads, threads * c, year, year * p,
        tokens, tokens * p, tokens * c, load, load * p, load * tokens, load * c, points.held_back,
    ]  # fmt: skip
    for isa in ("neon", "sve", "avx512", "amx"):
        has = (points.isa == words.isas[isa]).astype(np.float64)
        columns += [has, has * p, has * c]
    return np.stack(columns, axis=1)


BATCHING_FEATURES = ("one", "p", "neon", "sve", "avx512", "amx")


def batching_features(points: Points, words: Vocabulary) -> Numbers:
    """Return what the exponent of batching is linear in, shape (points, features)."""
    columns = [np.ones(len(points)), points.parameters]
    columns += [(points.isa == words.isas[isa]).astype(np.float64) for isa in BATCHING_FEATURES[2:]]
    return np.stack(columns, axis=1)
