"""A model with an engine on a CPU server: its rates made into seconds of prompts and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import GIB, Offer
from polysilicon.catalog.servers import ServerType
from polysilicon.catalog.tables import data_folder, day, number, read_rows, text
from polysilicon.cost.llm.cpu_points import OUTPUT_TOKENS
from polysilicon.cost.llm.cpu_rates import CpuFit, Rates
from polysilicon.cost.llm.cpu_seconds import (
    CALIBRATED,
    FAR_TOKENS,
    MEASURED,
    PREFILL_CONTEXTS,
    ROOFLINE,
    CpuLaw,
    prompt_token_s,
)
from polysilicon.cost.llm.cpu_served import Runs, Served, taken_apart
from polysilicon.cost.llm.law import Numbers
from polysilicon.errors import NoBasisError

LLAMACPP, VLLM = "llama.cpp", "vllm"
MEASURED_PRECISION = {LLAMACPP: "q4_k_m", VLLM: "bf16"}
# Prompts of the served requests.
SHAPES = (256, 1024)
# Mean contexts of the decoded tokens of llama.cpp and of the output tokens of vLLM's requests.
DECODE_CONTEXTS = (64.0, 256.0)
SERVED_CONTEXTS = (320.0, 1152.0)
# About loads so many times the usual one of a server the busy runs of others tell something.
_NEAR_LOADS = (0.25, 0.5, 1.0, 2.0, 4.0)


class Site:
    """A model with an engine on a server.

    Args:
        fit: of the rates.
        server: where.
        model: which.
        engine: `llama.cpp` or `vllm`.
        precision: of the weights.
        catalog: models and precisions.

    Raises:
        NoBasisError: no model of about its size was measured with this engine.
    """

    def __init__(
        self,
        fit: CpuFit,
        server: ServerType,
        model: ModelArchitecture,
        engine: str,
        precision: str,
        catalog: Catalog,
    ) -> None:
        self.fit, self.server, self.model, self.engine = fit, server, model, engine
        self.precision, self.constants = precision, constants()
        self.width = catalog.precisions[precision]
        # Weights of another 4-bit format are read as fast as the measured ones.
        self.wider = self.width / catalog.precisions[MEASURED_PRECISION[engine]]
        self.alike = _alike(fit.models_of(engine), model, catalog)
        self._check_size(catalog)

    def _check_size(self, catalog: Catalog) -> None:
        """Refuse models far from all that were measured.

        Raises:
            NoBasisError: it is far larger or smaller.
        """
        sizes = [catalog.models[name].active_parameters for name in self.fit.models_of(self.engine)]
        reach = self.constants["reach_of_sizes"]
        if not sizes:
            raise NoBasisError(f"nothing was measured on CPUs with {self.engine}")
        if not min(sizes) / reach <= self.model.active_parameters <= max(sizes) * reach:
            raise NoBasisError(
                f"no model of about its size was measured on CPUs with {self.engine}"
            )

    def law(self, offer: Offer, concurrency: float) -> CpuLaw:
        """Return the law.

        Raises:
            NoBasisError: it does not fit, or nothing tells whether it does.
        """
        if self.engine == LLAMACPP:
            return self._llamacpp(offer, concurrency)
        return self._vllm(offer, concurrency)

    def _largest_tokens(self, offer: Offer, concurrency: float, *, ran: bool) -> float:
        """Return tokens of a step for which there is memory.

        Raises:
            NoBasisError: weights alone do not fit, or the memory is not known.
        """
        has = offer.memory_bytes
        if has is None and self.server.memory_gib is not None:
            has = round(self.server.memory_gib * GIB)
        if has is None:
            if ran:
                return FAR_TOKENS
            raise NoBasisError("how much memory it has is not known")
        free = has * self.constants["usable_share"] - self.model.parameters * self.width
        tokens = free / (concurrency * max(self.model.kv_bytes_per_token(), 1.0))
        if tokens < 1:
            if ran and concurrency == 1:
                return FAR_TOKENS
            raise NoBasisError("it does not fit: weights and cache are larger than the memory")
        return tokens

    def _llamacpp(self, offer: Offer, concurrency: float) -> CpuLaw:
        """Return the law of llama.cpp, measured with one request at a time."""
        asked = [("prefill", 512, 1.0), ("prefill", 4096, 1.0)]
        asked += [("decode", 64, 1.0), ("decode", 256, 1.0)]
        rates = self.fit.rates(self.server, self.model, asked, self.alike)
        short_s, long_s, first_s, last_s = np.exp(-rates.log)
        band = rates.band + self._more(rates)
        power, power_band = self.fit.batching_of(self.server, self.model)
        power_band += self.constants["carried_over_deviation"] * 1.645
        slower = concurrency ** min(max(power, self.constants["least_batching"]), 1.0)
        crowd = power_band * math.log(concurrency)
        span = PREFILL_CONTEXTS[1] - PREFILL_CONTEXTS[0]
        first_s, last_s = self._decode(rates, first_s, last_s)
        alone = concurrency == 1 and self.wider == 1.0
        decoded = bool(rates.measured[2] or rates.measured[3])
        weak = CALIBRATED if rates.near else ROOFLINE
        return CpuLaw(
            engine=self.engine,
            precision=self.precision,
            concurrency=concurrency,
            note=self._note(rates, concurrency),
            largest_tokens=self._largest_tokens(offer, concurrency, ran=decoded),
            prompt_s=short_s,
            prompt_slope_s=max((long_s - short_s) / span, 0.0),
            contexts=DECODE_CONTEXTS,
            output_s=(first_s * self.wider, last_s * self.wider),
            decode_s=(first_s * self.wider * slower, last_s * self.wider * slower),
            weight_bytes=self.model.active_parameters * self.width,
            kv_bytes=self.model.kv_bytes_per_token(),
            prompt_bands=(float(band[0]) + crowd, float(band[1]) + crowd),
            output_band=float(np.min(band[2:])) + crowd,
            basis=MEASURED if alone and rates.measured[0] else weak,
            long_basis=MEASURED if alone and rates.measured[0] and rates.measured[1] else weak,
            output_basis=MEASURED if alone and decoded else weak,
            longer_band=1.645 * self.constants["longer_deviation"],
            token_least_s=short_s,
        )

    def _decode(self, rates: Rates, first_s: float, last_s: float) -> tuple[float, float]:
        """Return seconds of an output token at both contexts; a measured one stands for both.

        A predicted rate beside a measured one would make the seconds jump between them.
        """
        if rates.measured[2] == rates.measured[3]:
            return first_s, last_s
        read = [
            self.model.active_parameters * self.width + self.model.kv_bytes_per_token() * context
            for context in DECODE_CONTEXTS
        ]
        if rates.measured[2]:
            return first_s, first_s * read[1] / read[0]
        return last_s * read[0] / read[1], last_s

    def _vllm(self, offer: Offer, concurrency: float) -> CpuLaw:
        """Return the law of vLLM, measured alone and with as many requests as it takes."""
        loads = np.array([self._loads(prompt) for prompt in SHAPES])
        asked = [("alone", prompt, 1.0) for prompt in SHAPES]
        asked += [
            ("busy", prompt, load)
            for prompt, row in zip(SHAPES, loads.tolist(), strict=True)
            for load in row
        ]
        rates = self.fit.rates(self.server, self.model, asked, self.alike)
        outputs = np.array([float(OUTPUT_TOKENS[prompt]) for prompt in SHAPES])
        alone_s = outputs * np.exp(-rates.log[:2])
        busy_s = loads * outputs[:, None] * np.exp(-rates.log[2:].reshape(loads.shape))
        passes = self._apart(concurrency, loads, alone_s, busy_s, known=rates.near)
        band = rates.band + self._more(rates)
        wide = band[2 : 2 + len(_NEAR_LOADS)]
        crowd = float(np.interp(concurrency, [1.0, *loads[0]], [0.0, *wide]))
        decoded, both = bool(rates.measured[0]), bool(rates.measured[0] and rates.measured[1])
        weak = CALIBRATED if rates.near else ROOFLINE
        basis = MEASURED if concurrency == 1 and both else weak
        prompt_band = float(band[0]) + passes.split_band + crowd
        return CpuLaw(
            engine=self.engine,
            precision=self.precision,
            concurrency=concurrency,
            note=self._note(rates, concurrency),
            largest_tokens=self._largest_tokens(offer, concurrency, ran=decoded),
            prompt_s=passes.prompt_s,
            prompt_slope_s=passes.prompt_s * self._growth(),
            contexts=SERVED_CONTEXTS,
            prompts=(float(SHAPES[0]), float(SHAPES[1])),
            output_s=passes.output_s,
            decode_s=passes.decode_s,
            weight_bytes=self.model.active_parameters * self.width,
            kv_bytes=self.model.kv_bytes_per_token(),
            prompt_bands=(prompt_band, prompt_band),
            output_band=float(band[0]) + crowd,
            basis=basis,
            long_basis=max(basis, weak),
            output_basis=basis,
            longer_band=1.645 * self.constants["longer_deviation"],
            token_least_s=self._floor_s(known=rates.near),
            token_peak_s=self._least_s() if concurrency > 1 else 0.0,
        )

    def _apart(
        self, concurrency: float, loads: Numbers, alone_s: Numbers, busy_s: Numbers, *, known: bool
    ) -> Served:
        """Return the passes of which measured requests are made.

        Args:
            concurrency: steps at once.
            loads: about which busy runs tell; shape (2, loads), as `busy_s`.
            alone_s: seconds of a request of each shape by itself; shape (2,).
            busy_s: of one of so many.
            known: a chip of the family was measured.
        """
        tokens = np.array(SHAPES, dtype=np.float64)
        runs = Runs(
            tokens=tokens,
            counted=prompt_token_s(1.0, self._growth(), tokens / 2.0),
            later=np.array([OUTPUT_TOKENS[prompt] - 1.0 for prompt in SHAPES]),
            alone_s=alone_s,
            loads=loads,
            busy_s=busy_s,
            weight_bytes=self.model.active_parameters * self.width,
            context_bytes=np.array(SERVED_CONTEXTS) * self.model.kv_bytes_per_token(),
        )
        return taken_apart(
            runs, concurrency, self._least_s(), self._floor_s(known=known), self.constants
        )

    def _growth(self) -> float:
        """Return how much more of a prompt token's arithmetic each token before it makes."""
        heads = self.model.layers * self.model.heads * self.model.head_dim
        return 2.0 * heads / self.model.active_parameters

    def _loads(self, prompt: int) -> Numbers:
        """Return loads about which the busy runs of vLLM tell; the usual one is in the middle."""
        usual = self.fit.usual_load(self.server, self.model, prompt, self.alike)
        return np.asarray(np.maximum(usual * np.array(_NEAR_LOADS), 1.5))

    def _prompt_token_s(self) -> float:
        """Return seconds of a prompt token by the peak rate of the cores and their efficiency."""
        return self._least_s() / self.constants["compute_efficiency"]

    def _floor_s(self, *, known: bool) -> float:
        """Return seconds below which a token of many requests cannot come.

        Args:
            known: they were measured here; then only the peak of the cores is a bound, else what
                large matrix products reach of it.
        """
        return self._least_s() if known else self._prompt_token_s()

    def _least_s(self) -> float:
        """Return seconds of a token's arithmetic by all cores at their peak."""
        chip = self.fit.data.words.servers.chips.get(self.server.chip)
        cores = self.server.cores or max(self.server.vcpus // 2, 1)
        peak = self.constants[f"{'avx2' if chip is None else chip.isa}_gflops_per_core"] * 1e9
        return 2.0 * self.model.active_parameters / (cores * peak)

    def _more(self, rates: Rates) -> Numbers:
        """Return what widens bands: mixtures of experts were not measured."""
        if self.model.experts is None:
            return np.zeros(len(rates.band))
        return np.full(len(rates.band), 1.645 * self.constants["mixture_deviation"])

    def _note(self, rates: Rates, concurrency: float) -> str:
        """Return in words what the rates rest on."""
        many = "one request at a time" if concurrency == 1 else f"{concurrency:g} at a time"
        chip = self.server.chip or "this server"
        if rates.measured.all():
            rests = "measured on this type"
        elif rates.measured.any():
            rests = f"measured on this type in part, the rest by {chip} and a law"
        elif rates.near:
            rests = f"by a law and what was measured on {chip} and its family"
        else:
            rests = "by a law over facts of the chip; none of its family was measured"
        alike = f"{self.alike} (same tensor shapes), " if self.alike else ""
        note = f"{alike}{self.engine}, {self.precision}, {many}, {rests}"
        if concurrency > 1 and self.engine == LLAMACPP:
            note += "; batching carried over from vllm on CPUs"
        return note


def _alike(measured: Sequence[str], model: ModelArchitecture, catalog: Catalog) -> str:
    """Return a measured model with the same tensor shapes; blank where it was measured itself."""
    if model.name in measured:
        return ""
    for name in measured:
        if catalog.models[name].same_shapes(model):
            return name
    return ""


@lru_cache(maxsize=1)
def constants() -> Mapping[str, float]:
    """Return what the law takes besides its fit; read once."""
    columns = {"name": text, "value": number, "source": text, "date": day}
    source = data_folder("polysilicon.cost") / "cc_by_sa" / "cpu_constants.csv"
    return {row["name"]: row["value"] for _, row in read_rows(source, columns)}
