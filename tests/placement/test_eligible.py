"""Ways to serve steps: on this machine by each engine that was measured with the model."""

from __future__ import annotations

from polysilicon import catalog
from polysilicon.catalog.machine import local_offer
from polysilicon.placement import eligible
from profiles import MACHINE, llm_profile, profile


def test_engines_that_were_measured_here_are_ways_of_their_own(monkeypatch):
    own = profile(servers=(llm_profile(engine="vllm"),))
    monkeypatch.setattr(eligible, "own_profile", lambda: own)
    known = catalog.shipped()
    local = local_offer(known, MACHINE)

    def engines(role, model, offer):
        return [load.serving.engine for load in eligible._loads(role, model, offer)]

    assert engines("llm", "tiny", local) == ["llama.cpp", "vllm"]
    assert engines("llm", "other", local) == ["llama.cpp"]  # which runs where nothing else is said
    assert engines("tool", "", local) == [""]
    assert engines("llm", "tiny", known.offer("aws/m9g.2xlarge")) == [""]
    monkeypatch.setattr(eligible, "own_profile", lambda: None)
    assert engines("llm", "tiny", local) == ["llama.cpp"]
