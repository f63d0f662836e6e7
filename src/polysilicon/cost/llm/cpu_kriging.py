"""What is known of a point from measured points near it: the law's residuals, smoothed."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.cost.llm.cpu_points import Codes, Points
from polysilicon.cost.llm.law import Numbers


class Kernel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How alike residuals are; sizes are standard deviations of the logarithm of a rate.

    Attributes:
        chip: of what servers of a chip share.
        family: of what chips of a family share.
        isa: of what chips with the same instructions share.
        all: of what all servers share.
        series: of what types of a series share.
        instance: of what models on one server type share.
        noise: of a run.
        near: reach in log2 of vCPUs, of chip and series.
        far: the same, of family and instructions.
        everywhere: the same, of all.
        socket: what spanning several sockets counts, in log2 of vCPUs.
        held_back: what a halving of the host's vCPUs counts, in log2 of vCPUs.
        bare: what a hypervisor on one of two servers counts, in log2 of vCPUs.
        parameters: reach in log2 of parameters.
        tokens: reach in log2 of tokens.
        concurrency: reach in log2 of requests at once.
        kinds: correlation of the two kinds of rates of llama.cpp.
        loads: correlation of the rates alone and busy of vLLM.
        outlier: deviation from the median of equals, in noises, from which a run counts less.
    """

    chip: float
    family: float
    isa: float
    all: float
    series: float
    instance: float
    noise: float
    near: float
    far: float
    everywhere: float
    socket: float
    held_back: float
    bare: float
    parameters: float
    tokens: float
    concurrency: float
    kinds: float
    loads: float
    outlier: float


def covariance(first: Points, second: Points, kernel: Kernel) -> Numbers:
    """Return the covariances of residuals, shape (first, second), without the runs' noise."""

    def apart(name: str) -> Numbers:
        off = np.subtract.outer(getattr(first, name), getattr(second, name))
        return np.asarray(np.abs(off), dtype=np.float64)

    def same(name: str) -> Numbers:
        alike = np.equal.outer(getattr(first, name), getattr(second, name))
        return np.asarray(alike, dtype=np.float64)

    server = apart("size") + kernel.socket * apart("spans") + kernel.bare * apart("bare")
    server += kernel.held_back * apart("held_back")
    near, far = np.exp(server / -kernel.near), np.exp(server / -kernel.far)
    task = apart("parameters") / kernel.parameters + apart("tokens") / kernel.tokens
    alike = _alike(first, second, kernel) * np.exp(-task)
    shared = near * (kernel.chip**2 * same("chip") + kernel.series**2 * same("series"))
    shared += far * (kernel.family**2 * same("family") + kernel.isa**2 * same("isa"))
    shared += kernel.all**2 * np.exp(server / -kernel.everywhere)
    shared *= np.exp(apart("concurrency") / -kernel.concurrency)
    return np.asarray(alike * (shared + kernel.instance**2 * same("instance")))


def _alike(first: Points, second: Points, kernel: Kernel) -> Numbers:
    """Return the correlation of the kinds of rates."""
    table = np.eye(4)
    table[0, 1] = table[1, 0] = kernel.kinds
    table[2, 3] = table[3, 2] = kernel.loads
    return table[np.ix_(first.kind, second.kind)]


def nearest(query: Points, known: Points, kernel: Kernel, count: int) -> Codes:
    """Return indices of the known points that tell most about any of the query's.

    Args:
        query: points of one model on one server.
        known: where to look.
        kernel: how alike points are.
        count: how many at most.
    """
    if len(known) <= count:
        return np.arange(len(known))
    one = query.take(np.zeros(1, dtype=np.int64))

    def apart(name: str) -> Numbers:
        return np.asarray(np.abs(getattr(known, name) - getattr(one, name)), dtype=np.float64)

    def other(name: str) -> Numbers:
        return np.asarray(getattr(known, name) != getattr(one, name), dtype=np.float64)

    # What is not shared counts like a distance in vCPUs, dearest first.
    far = apart("size") + kernel.socket * apart("spans") + kernel.bare * apart("bare")
    far += kernel.held_back * apart("held_back")
    far += 1.5 * (other("chip") + other("family") + other("isa")) + 0.3 * other("series")
    far -= 0.5 * (1.0 - other("instance"))
    far += 0.5 * apart("parameters")
    # Each kind and prompt that is asked for keeps its own neighbours.
    task = [
        1.5 * (known.kind != kind) + 0.25 * np.abs(known.tokens - tokens)
        + 0.4 * np.abs(known.concurrency - load)
        for kind, tokens, load in zip(query.kind, query.tokens, query.concurrency, strict=True)
    ]  # fmt: skip
    far += np.min(task, axis=0)
    return np.argpartition(far, count)[:count]


def krige(
    query: Points, known: Points, residuals: Numbers, noise: Numbers, kernel: Kernel
) -> tuple[Numbers, Numbers]:
    """Return mean and standard deviation of the residual at some points.

    Simple kriging: the conditional mean of a Gaussian process. Source: C. E. Rasmussen,
    C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equations 2.23 and 2.24.

    Args:
        query: where.
        known: points that were measured.
        residuals: log of rate over the law's there.
        noise: variance of each of these.
        kernel: how alike points are.

    Returns:
        Shape (query,) each; the deviation is that of another run there.
    """
    prior = np.diag(covariance(query, query, kernel)) + kernel.noise**2
    if not len(known):
        return np.zeros(len(query)), np.sqrt(prior)
    among = covariance(known, known, kernel)
    among[np.diag_indices_from(among)] += noise
    across = covariance(query, known, kernel)
    weights = np.linalg.solve(among, across.T)
    variance = prior - np.einsum("qk,kq->q", across, weights)
    return residuals @ weights, np.sqrt(np.maximum(variance, (kernel.noise / 2) ** 2))
