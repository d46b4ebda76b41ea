"""The description of the interface describes all of it."""

import re
from typing import Any

import jsonschema
import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from alexnet import __version__
from alexnet.inference.server.app import all_routes, make_app
from alexnet.inference.server.openapi_routes import read_description
from tests.helpers.http_service import make_service


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return read_description()


def served_operations() -> set[tuple[str, str]]:
    """Return (path, method) of every route; parameters' types are left out."""
    return {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in all_routes(make_service({}))
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }


def test_every_route_is_described(description: dict[str, Any]) -> None:
    described = {
        (path, method) for path, methods in description["paths"].items() for method in methods
    }
    assert served_operations() == described


def references(value: Any) -> list[str]:
    """Return all that a value refers to."""
    if isinstance(value, list):
        return [each for item in value for each in references(item)]
    if isinstance(value, dict):
        below = [each for item in value.values() for each in references(item)]
        return [*below, value["$ref"]] if "$ref" in value else below
    return []


def test_all_references_are_there_and_used(description: dict[str, Any]) -> None:
    parts = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "parameters", "responses")
        for name in description["components"][kind]
    }
    assert set(references(description)) == parts


def test_path_parameters_are_described(description: dict[str, Any]) -> None:
    for path, methods in description["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation.get("parameters", []) if p.get("in") == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), path
            assert operation["summary"] and operation["tags"] and operation["responses"]


def test_schemas_are_json_schemas(description: dict[str, Any]) -> None:
    for schema in description["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_answers_fit_their_schemas(description: dict[str, Any]) -> None:
    client = TestClient(make_app(make_service({})))
    for path in ("/v1/models", "/healthz", "/readyz", "/v2", "/v2/health/live"):
        operation = description["paths"][path]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        validator = jsonschema.Draft202012Validator(
            schema | {"components": description["components"]}
        )
        validator.validate(client.get(path).json())
    error = client.post("/v1/predict", content=b"x").json()
    jsonschema.validate(error, description["components"]["schemas"]["Error"])


def test_the_description_and_its_page_are_served() -> None:
    client = TestClient(make_app(make_service({})))
    assert client.get("/openapi.json").json()["info"]["version"] == __version__
    page = client.get("/docs").text
    for name in re.findall(r'(?:href|src)="([^"#]+)"', page):
        assert client.get(f"/{name.removeprefix('./')}").status_code == 200, name
