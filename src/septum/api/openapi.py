"""The API's description, OpenAPI 3.1, from the table of routes and the types of their bodies."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from septum import __version__
from septum.api.problem import MEDIA_TYPE, TITLES
from septum.api.routes import ROUTES, Route
from septum.realms.model import Name

__all__ = ["describe"]

_REF: Final = "#/components/schemas/{name}"
_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9._~-]+$"}
_ALWAYS: Final = (400, 403, 404, 408, 413, 429, 503)


def describe() -> dict[str, Any]:
    """The description as JSON."""
    types = list(dict.fromkeys(kind for route in ROUTES for kind in (route.body, route.answer) if kind is not None))
    schemas, components = msgspec.json.schema_components([*types, Name], ref_template=_REF)
    known = dict(zip(map(repr, [*types, Name]), schemas, strict=True))
    components["Problem"] = _problem()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "septum",
            "version": __version__,
            "description": "Realms, their guests and images. Who calls is known from the socket, never from a request.",
        },
        "servers": [{"url": "http://septum"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": known[repr(Name)]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    statuses = set(_ALWAYS)
    parameters += [{"name": name, "in": "query", "required": False, "schema": _KEY} for name in route.query]
    if route.makes:
        parameters.append(_header("Idempotency-Key", _KEY, required=False))
    if route.versioned:
        must = route.versioned == "must"
        parameters.append(_header("If-Match", {"type": "string", "pattern": '^"[0-9]{1,18}"$'}, required=must))
        statuses |= {412, 428} if must else {412}
    if route.method != "GET":
        statuses.add(409)
    found: dict[str, Any] = {"operationId": route.name, "summary": route.says, "parameters": parameters}
    if route.body is not None:
        statuses |= {415, 422}
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": known[repr(route.body)]}},
        }
    answer: dict[str, Any] = {"description": "Done." if route.status != 202 else "Accepted; follow the operation."}
    if route.answer is not None:
        answer["content"] = {"application/json": {"schema": known[repr(route.answer)]}}
    if route.streams:
        parameters.append(_header("Last-Event-ID", {"type": "string", "pattern": "^[0-9]{1,18}$"}, required=False))
        answer["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    problem = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    found["responses"] = {str(route.status): answer} | {
        str(status): {"description": TITLES[status] + ".", **problem} for status in sorted(statuses)
    }
    return found


def _header(name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": schema}


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    names = ("type", "title", "detail", "object", "holder", "rule", "remedy")
    return {
        "type": "object",
        "description": "RFC 9457.",
        "properties": {**dict.fromkeys(names, text), "status": {"type": "integer"}},
        "required": ["type", "title", "status", "detail"],
    }
