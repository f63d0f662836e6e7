"""The OpenAPI document says what is served, and schemathesis finds nothing that is not so."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.routing import Route

from polysilicon.gateway.app import ROUTES
from polysilicon.gateway.openapi import OPERATIONS
from scripted_endpoint import Endpoint
from served_gateway import endpoint_pool, serving

EXAMPLES = 6
"""For each operation; docs/serve_tasks.md has a long run."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("openapi")
    with Endpoint(lambda _: {"content": "hello there"}).served() as endpoint:
        with serving(folder, endpoint_pool(endpoint.address)) as found:
            yield found


@pytest.fixture
def document(served: Any) -> Any:
    schema = schemathesis.openapi.from_url(f"{served.address}/openapi.json")
    schema.config.update(base_url=served.address)
    return schema


def test_each_route_of_programs_is_in_it() -> None:
    routes = [route for part in ROUTES for route in part if isinstance(route, Route)]
    ours = ("/v1/", "/mcp", "/healthz", "/readyz", "/openapi.json")
    paths = {r.path.replace(":path", "") for r in routes if r.path.startswith(ours)}
    assert {operation.path for operation in OPERATIONS} == paths


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_schemathesis_finds_nothing(case: schemathesis.Case) -> None:
    case.call_and_validate()
