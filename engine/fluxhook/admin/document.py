"""The OpenAPI document: what Litestar tells of the routes, and what only the routes' rules know.

Each route says with `rules` which scope it needs, which body it takes and which problems it may
answer with; the guard enforces the same scope that is documented.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

import msgspec
from litestar import Litestar, Request
from litestar.enums import MediaType
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import QueryParameter
from litestar.plugins import OpenAPISchemaPlugin
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from fluxhook.admin import models
from fluxhook.admin.models import (
    CreatedWebhook,
    EventIn,
    PurgeRequest,
    ReplayRequest,
    RetryRequest,
    RotateRequest,
    TestRequest,
    Webhook,
)
from fluxhook.admin.payload import JSON, MERGE_PATCH, NDJSON
from fluxhook.admin.problem_details import KINDS, MEDIA_TYPE, ProblemDetails
from fluxhook.config import codec
from fluxhook.config.option import Option, is_struct, options
from fluxhook.config.schema import Aggregate, Batch, Breaker, Endpoint, Retry, Scope, Tls
from fluxhook.config.units import Duration, Rate, Size, Threshold
from fluxhook.store.audit import ChangeEntry

__all__ = [
    "DESCRIPTION",
    "TITLE",
    "Document",
    "UnitSchemas",
    "operation_id",
    "query_names",
    "rules",
]

TITLE: Final = "Fluxhook admin API"
DESCRIPTION: Final = """\
Webhooks (endpoints that events are delivered to), their status, deliveries and dead letters, and the
ingest of events, for one engine.

Requests need `Authorization: Bearer <token>` with the scope that the operation names. Without
`admin.tokens` in the configuration the API is open to this machine. Times are RFC 3339 in UTC,
durations as in the YAML file ("3s"), and every error is a problem details object (RFC 9457). Lists
have the newest first; `next_cursor` is the `cursor` of the next page.
"""

#: what any route may answer
_ALWAYS: Final = ("internal-error", "overloaded")
#: and any under /v1, of which some ask the supervisor and all read files
_UNDER_V1: Final = ("engine-not-running", "engine-unavailable", "store-failing")
_EXAMPLE_EVENT: Final = {
    "type": "route.error",
    "data": {
        "request_id": "req_7h3k9m2p",
        "path": "/api/v2/inventory",
        "status_code": 503,
        "upstream_service": "stock-manager",
        "latency_ms": 2450,
    },
}
_EXAMPLE_MESSAGE: Final = {
    "type": "message.published",
    "data": {
        "client_id": "publisher-1",
        "topic": "sensors/temperature",
        "qos": 1,
        "retained": False,
        "payload_size": 256,
    },
}
_EXAMPLE_WEBHOOK: Final = {
    "events": ["route.error"],
    "url": "https://hooks.example.com/fg",
    "secret": "sk_live_9x8m2p",
    "timeout": "3s",
}
_STRUCTS: Final = (
    EventIn,
    RotateRequest,
    TestRequest,
    RetryRequest,
    ReplayRequest,
    PurgeRequest,
    ProblemDetails,
)
_OPTIONS: Final = "WebhookOptions"
#: Litestar's name for a page of some model
_PAGE: Final = re.compile(rb"Page_[\w.]+\.(\w+)_")
#: the schemas that are named otherwise than our structs
_TOLD_AS: Final = {b"ProblemDetails": b"Problem", b"FieldError": b"Fault"}
_UNITS: Final[dict[type, tuple[str, str]]] = {
    Duration: ("A span of time.", "3s"),
    Size: ("A number of bytes.", "64KiB"),
    Rate: ("At most so many in a second, minute or hour.", "100/s burst 20"),
    Threshold: ("More than so many, within a window.", "100/s over 10s"),
}


def rules(
    scope: Scope | None,
    problems: Iterable[str] = (),
    *,
    body: type[msgspec.Struct] | None = None,
    media: tuple[str, ...] = (JSON,),
    body_optional: bool = False,
) -> dict[str, Any]:
    """Return a route's `opt`. `scope` None: anyone may. `problems` are KINDS of its own, beside
    those of every route, of its scope, its parameters and its body."""
    return {
        "scope": scope,
        "problems": tuple(problems),
        "body": body,
        "media": media,
        "body_optional": body_optional,
    }


def query_names(handler: BaseRouteHandler) -> dict[str, str]:
    """Return the query parameters of a route: their names in Python and in the query."""
    names = {}
    for name, field in handler.parsed_fn_signature.parameters.items():
        definition = field.kwarg_definition
        if isinstance(definition, QueryParameter):
            names[name] = definition.name or name
    return names


def operation_id(handler: HTTPRouteHandler, method: Any, path: list[Any]) -> str:
    """Return an id such as `get_v1_webhooks_ref_status`."""
    words = [getattr(part, "name", part) for part in path]
    return "_".join([str(method.value).lower(), *words]).replace("-", "_")


class UnitSchemas(OpenAPISchemaPlugin):
    """Durations, sizes, rates and thresholds are texts."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value in codec.UNITS

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        text, example = _UNITS[field_definition.annotation]
        return Schema(type=OpenAPIType.STRING, description=text, examples=[example])


class Document(OpenAPIRenderPlugin):
    """Answers with the document as JSON. It needs no network to be read, so there is no viewer."""

    def __init__(self) -> None:
        super().__init__(path=["/openapi.json", "/"], media_type=MediaType.JSON)
        self._written: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._written is None:
            plain = msgspec.to_builtins(openapi_schema, enc_hook=str)
            written = msgspec.json.encode(_complete(plain, request.app))
            for ours, told in _TOLD_AS.items():
                written = written.replace(ours, told)
            self._written = _PAGE.sub(rb"\1Page", written)
        return self._written


def _complete(document: dict[str, Any], app: Litestar) -> dict[str, Any]:
    components = document["components"]
    _, ours = msgspec.json.schema_components(
        _STRUCTS, schema_hook=_unit_schema, ref_template="#/components/schemas/{name}"
    )
    components["schemas"] |= ours
    _describe(components["schemas"])
    components["schemas"][_OPTIONS] = _webhook_options(components["schemas"])
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of admin.tokens; its scopes are read, write and emit.",
        }
    }
    for route in app.routes:
        if not isinstance(route, HTTPRoute) or route.path_format not in document["paths"]:
            continue
        operations = document["paths"][route.path_format]
        for handler in route.route_handlers:
            for method in handler.http_methods:
                if (operation := operations.get(method.lower())) is not None:
                    _complete_operation(operation, handler, route.path_format)
    return document


def _describe(schemas: Mapping[str, Any]) -> None:
    """Write into the schemas what Litestar leaves out of ours: docstrings, formats, and the limits of
    an endpoint's options."""
    for kind in (*vars(models).values(), ChangeEntry, Retry, Breaker, Aggregate, Batch, Tls):
        if not is_struct(kind) or (schema := schemas.get(kind.__name__)) is None:
            continue
        schema.setdefault("description", inspect.cleandoc(kind.__doc__ or ""))
        for field in msgspec.structs.fields(kind):
            for member in _members(schema["properties"][field.name]):
                if member.get("type") != "null":
                    member |= _more(field.type)
    for option in options(Endpoint):
        owners = (Webhook, CreatedWebhook) if option.owner is Endpoint else (option.owner,)
        for owner in owners:
            _bound(schemas[owner.__name__]["properties"][option.name], option)


def _more(annotation: Any) -> dict[str, Any]:
    """Return what a type says of itself for JSON Schema, however deep it stands."""
    found: dict[str, Any] = {}
    for part in get_args(annotation):
        if isinstance(part, msgspec.Meta):
            found |= part.extra_json_schema or {}
        else:
            found |= _more(part)
    return found


def _bound(schema: dict[str, Any], option: Option) -> None:
    """Write the limits of an option into its schema; those of a text into its description."""
    for member in _members(schema):
        match member.get("type"):
            case "array" if option.entries is not None:
                member["maxItems"] = option.entries
            case "object" if option.entries is not None:
                member["maxProperties"] = option.entries
            case "integer" | "number" if option.limit is not None:
                member["minimum"], member["maximum"] = option.limit.low, option.limit.high
            case "string" if option.limit is not None:
                schema["description"] = f"{option.description} From {option.limit}."


def _members(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a schema, or those of which it is one."""
    return schema.get("oneOf") or schema.get("anyOf") or [schema]


def _complete_operation(operation: dict[str, Any], handler: HTTPRouteHandler, path: str) -> None:
    opt = handler.opt
    kinds = [*opt["problems"], *_ALWAYS, "foreign-host", "cross-origin"]
    if path.startswith("/v1"):
        kinds += _UNDER_V1
    if "{" in path:
        kinds.append("method-not-allowed")  # of what has a name in that place: status, replay
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_default(parameter["schema"])
    if opt["scope"] is None:
        operation["security"] = []
    else:
        operation["security"] = [{"bearer": []}]
        operation["x-scope"] = opt["scope"]
        kinds += ["unauthorized", "insufficient-scope"]
    operation["responses"].pop("400", None)  # Litestar's own shape, which is never answered
    kinds += ["invalid-request"]  # an unknown parameter
    if opt["body"] is not None:
        operation["requestBody"] = _request_body(opt)
        kinds += [
            "malformed-body",
            "unsupported-media-type",
            "content-too-large",
            "request-timeout",
        ]
    by_status: dict[int, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(KINDS[kind].status, []).append(kind)
    for status, some in sorted(by_status.items()):
        operation["responses"][str(status)] = {
            "description": " ".join(f"{kind}: {KINDS[kind].title}" for kind in some),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _without_default(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave a default out: a filter that is not given is left out; an empty one is refused."""
    if schema.get("default") == "":
        return {name: value for name, value in schema.items() if name != "default"} | {
            "minLength": 1
        }
    if "oneOf" in schema:  # a header
        (one,) = (one for one in schema.pop("oneOf") if one != {"type": "null"})
        return {**one, **schema}
    return schema


def _request_body(opt: Mapping[str, Any]) -> dict[str, Any]:
    kind: type[msgspec.Struct] = opt["body"]
    name = _OPTIONS if kind is Endpoint else kind.__name__
    reference: dict[str, Any] = {"$ref": f"#/components/schemas/{name}"}
    content: dict[str, Any] = {}
    for media in opt["media"]:
        content[media] = {"schema": reference}
        if kind is EventIn:
            content[media]["examples"] = {
                "gateway": {"value": _EXAMPLE_EVENT},
                "broker": {"value": _EXAMPLE_MESSAGE},
            }
        elif media == MERGE_PATCH:
            # null takes an option back to its default
            content[media] = {
                "schema": {"type": "object"},
                "example": {"timeout": "5s", "ttl": None},
            }
        elif kind is Endpoint:
            content[media]["example"] = _EXAMPLE_WEBHOOK
        if media == NDJSON:
            lines = b"\n".join(map(msgspec.json.encode, (_EXAMPLE_EVENT, _EXAMPLE_MESSAGE)))
            content[media] = {
                "schema": {"type": "string", "description": "One event a line."},
                "example": lines.decode() + "\n",
            }
    if kind is EventIn:
        many = {"type": "array", "items": reference}
        content[JSON]["schema"] = {"oneOf": [reference, many]}
        content[JSON]["examples"]["many"] = {"value": [_EXAMPLE_EVENT, _EXAMPLE_MESSAGE]}
    return {"required": not opt["body_optional"], "content": content}


def _webhook_options(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that creates a webhook: the options of an endpoint, as a `Webhook` shows them."""
    shown = schemas[Webhook.__name__]["properties"]
    return {
        "title": _OPTIONS,
        "type": "object",
        "description": "The options of an endpoint, as in the YAML file.",
        "properties": {
            **{name: shown[name] for name in Endpoint.__struct_fields__},
            "secret": {"type": "string", "description": "Short for `secrets` with one."},
            "generate_secret": {"type": "boolean", "description": "Has a secret made."},
        },
        "required": ["url", "events"],
        "additionalProperties": False,
    }


def _unit_schema(kind: type) -> dict[str, Any]:
    text, example = _UNITS[kind]
    return {"type": "string", "description": text, "examples": [example]}
