"""Who may ask: hosts, origins, the token; and the headers of every answer."""

from collections.abc import Mapping

import pytest
from starlette.testclient import TestClient

from alexnet.core.errors import UsageError
from alexnet.inference.server.app import make_app
from alexnet.inference.server.security import Access, is_loopback, make_access
from tests.helpers.http_service import make_service

BASE = "http://127.0.0.1:8000"


def client_of(access: Access) -> TestClient:
    return TestClient(make_app(make_service({}), access), base_url=BASE)


def status(client: TestClient, method: str, path: str, headers: Mapping[str, str]) -> int:
    return client.request(method, path, headers=headers).status_code


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("lab.example", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8000", 403),
        ("192.168.1.2", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_the_host_must_be_ours(host: str, expected: int) -> None:
    client = client_of(make_access("127.0.0.1", ["lab.example"], None))
    assert status(client, "GET", "/healthz", {"host": host}) == expected
    assert status(client, "GET", "/", {"host": host}) == expected


def test_a_server_on_all_addresses_accepts_addresses_but_no_other_names() -> None:
    client = client_of(make_access("0.0.0.0", [], None))
    assert status(client, "GET", "/healthz", {"host": "192.168.1.2:8000"}) == 200
    assert status(client, "GET", "/healthz", {"host": "evil.example"}) == 403


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, 404),  # there is no model, but the request was let through
        ("http://127.0.0.1:8000", 404),
        ("http://127.0.0.1:9000", 403),
        ("http://localhost:8000", 403),
        ("http://evil.example", 403),
        ("http://[", 403),
        ("null", 403),
    ],
)
def test_a_changing_request_must_come_from_our_page(origin: str | None, expected: int) -> None:
    client = client_of(Access())
    headers = {} if origin is None else {"origin": origin}
    assert status(client, "POST", "/v1/predict", headers) == expected
    assert status(client, "GET", "/healthz", headers) == 200


def test_another_sites_page_cannot_use_the_interface_as_an_image() -> None:
    client = client_of(Access())
    headers = {"sec-fetch-site": "cross-site"}
    assert status(client, "GET", "/v1/models", headers) == 403
    assert status(client, "GET", "/", headers) == 200  # a link is followed
    for site in ("same-origin", "same-site", "none"):
        assert status(client, "GET", "/v1/models", {"sec-fetch-site": site}) == 200


def test_no_other_site_is_given_permission() -> None:
    answer = client_of(Access()).options(
        "/v1/predict",
        headers={"origin": "http://evil.example", "access-control-request-method": "POST"},
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_has_the_headers() -> None:
    client = client_of(Access(token="secret"))
    for path in ("/", "/app.js", "/healthz", "/v1/models", "/nothing", "/docs"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, "", 401),
        ({"authorization": "Bearer wrong"}, "", 401),
        ({"authorization": "Bearer secre"}, "", 401),
        ({"authorization": "Bearer "}, "", 401),
        ({"authorization": "Basic secret"}, "", 401),
        ({"authorization": "Bearer secret"}, "", 200),
        ({"authorization": "bearer secret"}, "", 200),
        ({}, "?token=secret", 200),
        ({}, "?token=wrong", 401),
        ({"cookie": "alexnet=secret"}, "", 401),
        ({"cookie": 'a="; ='}, "", 401),
    ],
)
def test_the_token_is_needed(headers: dict[str, str], query: str, expected: int) -> None:
    client = client_of(Access(token="secret"))
    assert status(client, "GET", f"/v1/models{query}", headers) == expected
    assert status(client, "GET", f"/metrics{query}", headers) == expected
    assert status(client, "GET", f"/v2{query}", headers) == expected
    for public in ("/", "/healthz", "/readyz", "/v2/health/live", "/openapi.json"):
        assert status(client, "GET", public, headers) == 200


def test_the_token_is_kept_in_a_cookie_that_scripts_cannot_read() -> None:
    client = client_of(Access(token="secret"))
    first = client.get("/v1/models", headers={"authorization": "Bearer secret"})
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    second = client.get("/v1/models")  # with the cookie only
    assert second.status_code == 200 and "set-cookie" not in second.headers
    other = client_of(Access(token="other"))
    other.cookies = client.cookies
    assert other.get("/v1/models").status_code == 401


def test_a_token_must_fit_into_an_address() -> None:
    with pytest.raises(UsageError, match="token"):
        make_access("127.0.0.1", [], "a b;c")


def test_which_hosts_are_this_machine_only() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1")] == [
        True
    ] * 4
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org")))


def test_page_files_stay_in_their_folder() -> None:
    client = client_of(Access())
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/%2fetc%2fpasswd", "/web"):
        assert client.get(path).status_code == 404
    first = client.get("/app.js")
    etag = first.headers["etag"]
    assert client.get("/app.js", headers={"if-none-match": etag}).status_code == 304
