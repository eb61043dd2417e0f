"""The page ``/docs``: the OpenAPI document for people, in one file that asks no other host for anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_DEEPEST = 4
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}


def api_page(document: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document: operations with their parameters, the fields of body and answer, and an example."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    operations = [
        _operation(document, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        info=document["info"], operations=operations
    )


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    good = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "description": operation["description"],
        "example": _example(document, path, body, bool(operation.get("security"))),
        "parameters": [
            _row(parameter["name"], parameter["schema"], parameter.get("description", ""), document)
            for parameter in operation.get("parameters", [])
        ],
        "request": list(_fields(document, body)) if body else [],
        "answer": list(_fields(document, good)) if good else [],
        "errors": [
            {"name": status, "type": "", "meaning": response["description"]}
            for status, response in operation["responses"].items()
            if status != "200" and "description" in response
        ],
    }


def _example(document: Mapping[str, Any], path: str, body: Mapping[str, Any] | None, is_guarded: bool) -> str:
    key = ' -H "Authorization: Bearer $KEY"' if is_guarded else ""
    line = f'curl -s{key} "$API{path.replace("{ticker}", "AAPL")}"'
    if body is None:
        return line
    examples = _resolved(document, body).get("examples", [{}])
    return f"{line} -H \"content-type: application/json\" -d '{json.dumps(examples[0])}'"


def _fields(
    document: Mapping[str, Any], schema: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[dict[str, str]]:
    """Fields of a schema, those of what it holds behind them with their path."""
    for name, value in _resolved(document, schema).get("properties", {}).items():
        where = f"{prefix}{name}"
        yield _row(where, value, value.get("description", ""), document)
        inner = next((one for one in _alternatives(document, value) if one.get("type") in ("object", "array")), {})
        step = "."
        if inner.get("type") == "array":
            inner, step = _resolved(document, inner.get("items", {})), "[]."
        if inner.get("properties") and depth < _DEEPEST:
            yield from _fields(document, inner, f"{where}{step}", depth + 1)


def _row(name: str, schema: Mapping[str, Any], meaning: str, document: Mapping[str, Any]) -> dict[str, str]:
    kinds = [_kind(one, document) for one in _alternatives(document, schema)]
    text = meaning or next((one.get("description", "") for one in _alternatives(document, schema)), "")
    default = schema.get("default")
    shown = f" Default: {json.dumps(default)}." if "default" in schema and not isinstance(default, dict) else ""
    return {"name": name, "type": " or ".join(dict.fromkeys(kinds)), "meaning": f"{text}{shown}"}


def _kind(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        items = schema.get("items", {})
        return f"list of {_kind(_resolved(document, items), document)}"
    limits = ", ".join(text.format(f"{schema[name]:,.12g}") for name, text in _LIMITS.items() if name in schema)
    kind = str(schema.get("format") or schema.get("type", "any"))
    return f"{kind}, {limits}" if limits else kind


def _alternatives(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [_resolved(document, one) for one in schema.get("anyOf", [schema])]


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    found: Mapping[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]] if reference else schema
    return found
