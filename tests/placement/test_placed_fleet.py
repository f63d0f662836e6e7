"""The fleet file of a placement, where pools are on this machine."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.machine import local_offer
from polysilicon.catalog.policy import Policy
from polysilicon.placement.eligible import Option, Site
from polysilicon.placement.fleet import fleet_of
from profiles import MACHINE


@pytest.mark.parametrize(
    ("engine", "pool"),
    [
        ("", ("llama.cpp", None)),
        ("llama.cpp", ("llama.cpp", None)),
        ("vllm", ("openai", "vllm-cpu")),
        ("llamacpp", ("openai", "llama-server")),
        ("another", ("openai", None)),
    ],
)
def test_a_server_that_was_measured_here_is_no_engine_in_process(engine, pool):
    site = Site(offer=local_offer(catalog.shipped(), MACHINE), price="on-demand", usd_per_hour=1.0)
    option = Option(
        site=site, role="llm", model="tiny", concurrency=8, count=None, basis="measured", note="",
        engine=engine,
    )  # fmt: skip
    case = SimpleNamespace(options=[option], policy=Policy(objective="latency"))
    found = SimpleNamespace(units=np.array([1]))
    (one,) = fleet_of(case, SimpleNamespace(), found, np.zeros(1)).pool
    assert (one.engine, one.recipe) == pool
