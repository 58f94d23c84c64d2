"""schemathesis, a foreign judge: whatever the OpenAPI document allows or forbids is asked of a real
engine, and every answer is one that the document knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    missing_required_header,
    unsupported_method,
)

from admin.conftest import ALL, TOKENS, config
from fluxhook import Endpoint, Engine
from fluxhook.admin.app import create_app
from fluxhook.config.schema import Admin


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of an engine that delivers to a port where nobody listens."""
    data_dir = tmp_path_factory.mktemp("schemathesis") / "data"
    nobody = Endpoint(name="ops", url="http://127.0.0.1:9/", signature="none")
    with Engine(config(nobody, admin=Admin(tokens=TOKENS)), data_dir):
        app = create_app(data_dir)
        yield schemathesis.openapi.from_asgi("/schema/openapi.json", app)
        app.service.close()


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=15,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_every_answer_is_documented(case: schemathesis.Case) -> None:
    """No server error, no undocumented status or content type, no body beside its schema."""
    case.call_and_validate(
        headers={"Authorization": f"Bearer {ALL}"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
            unsupported_method,
            missing_required_header,
            ignored_auth,
        ],
    )
