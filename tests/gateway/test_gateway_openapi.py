"""The OpenAPI document says what is served, and schemathesis finds nothing that is not so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from starlette.routing import Route

from polysilicon.gateway.app import ROUTES
from polysilicon.gateway.code import BYTES
from polysilicon.gateway.openapi import OPERATIONS, Operation
from scripted_endpoint import Endpoint
from served_gateway import endpoint_pool, serving

ODD = f"{Path(__file__).parents[1] / 'agent_samples.py'}:odd"
"""It takes any input, and makes no step."""
EXAMPLES = 6
"""For each operation; docs/serve_tasks.md has a long run."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("openapi")
    scripted = Endpoint(lambda _: {"content": "hello there"})
    with (
        scripted.served() as endpoint,
        serving(folder, endpoint_pool(endpoint.address), agents=(ODD,)) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def document(served: Any) -> Any:
    config = SchemathesisConfig.from_path(Path(__file__).with_name("schemathesis.toml"))
    return schemathesis.openapi.from_url(f"{served.address}/openapi.json", config=config)


def test_each_route_of_programs_is_in_it() -> None:
    routes = [route for part in ROUTES for route in part if isinstance(route, Route)]
    ours = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")
    paths = {r.path.replace(":path", "") for r in routes if r.path.startswith(ours)}
    assert {operation.path for operation in OPERATIONS} == paths


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_schemathesis_finds_nothing(document: Any, operation: Operation, mode: Any) -> None:
    asked = document[operation.path][operation.method]
    if mode == GenerationMode.NEGATIVE and not has_rules(operation):
        return

    @given(case=asked.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: schemathesis.Case) -> None:
        if mode == GenerationMode.POSITIVE and isinstance(case.body, dict):
            known = {"model": "scripted", "agent": "odd"}  # what a stranger must ask for first
            case.body |= {name: known[name] for name in known if name in case.body}
        case.call_and_validate()

    ask()


def test_a_wrong_method_is_told_the_right_ones(served: Any) -> None:
    answer = served.client.request("TRACE", "/v1/tasks")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert served.client.get("/v1/tasks?status=null").status_code == 400


def has_rules(operation: Operation) -> bool:
    """Tell whether anything may be wrong with a request."""
    takes = operation.takes
    any_bytes = isinstance(takes, dict) and set(takes) == {BYTES}
    return bool((takes and not any_bytes) or operation.query or operation.headers)
