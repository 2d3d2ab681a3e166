"""Bad input gets the right status and a clear message, and leaves the session as it was; on every host."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from lib.cluster import Client, Cluster

COOKIE = "__Host-session="
UNKNOWN = COOKIE + "A" * 45
NOBODY = f"nobody-{secrets.token_hex(4)}"  # a new name each time: failures count for a while


@pytest.fixture
def session(cluster: Cluster) -> Iterator[Client]:
    """A client with a counter of 1 and a note, which must be the same at the end of the test."""
    client = cluster.log_in(cluster.apps[0])
    client.post(cluster.apps[0], "/api/counter")
    assert client.request("PUT", cluster.apps[0], "/api/note", json={"note": "mine"}).status_code == 200
    yield client
    for host in cluster.http_hosts:
        body = client.get(host).json()
        assert (body["counter"], body["note"]) == (1, "mine")


BAD: dict[str, tuple[int | tuple[int, ...], str, str, dict[str, Any]]] = {
    "a wrong password": (401, "POST", "/api/login", {"json": {"username": "demo", "password": "wrong"}}),
    "an unknown user": (401, "POST", "/api/login", {"json": {"username": NOBODY, "password": "wrong"}}),
    "a forged cookie": (401, "GET", "/api/session", {"headers": {"Cookie": COOKIE + "../../etc/passwd"}}),
    "a foreign cookie": (401, "GET", "/api/session", {"headers": {"Cookie": UNKNOWN}}),
    "a long cookie": (401, "GET", "/api/session", {"headers": {"Cookie": COOKIE + "A" * 3900}}),
    "an oversized cookie": ((401, 431), "GET", "/api/session", {"headers": {"Cookie": COOKIE + "A" * 16000}}),
    "a note of 1 MiB": (413, "PUT", "/api/note", {"json": {"note": "x" * 2**20}}),
    "a note of 5,000 characters": (413, "PUT", "/api/note", {"json": {"note": "x" * 5000}}),
    "a body that is no JSON": (
        400,
        "PUT",
        "/api/note",
        {"data": "{note", "headers": {"Content-Type": "application/json"}},
    ),
    "a form for the JSON interface": (415, "POST", "/api/counter", {"data": {"by": "2"}}),
    "an unknown path": (404, "GET", "/api/nothing", {}),
    "a method that is not for this path": (405, "DELETE", "/api/counter", {}),
    "a page of another origin": (
        403,
        "POST",
        "/api/counter",
        {"json": {}, "headers": {"Origin": "http://evil.example"}},
    ),
    "a page of another site": (403, "POST", "/api/counter", {"json": {}, "headers": {"Sec-Fetch-Site": "cross-site"}}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(cluster: Cluster, session: Client, name: str) -> None:
    """BAD has the requests and the expected statuses."""
    statuses, method, path, options = BAD[name]
    # nginx refuses a header that gunicorn accepts.
    statuses = statuses if isinstance(statuses, tuple) else (statuses,)
    for host in cluster.http_hosts:
        answer = session.request(method, host, path, **options)
        assert answer.status_code in statuses, f"{host}: {answer.status_code} {answer.text[:200]}"
        assert "Traceback" not in answer.text
        assert answer.json()["error"]
        assert answer.json()["request_id"]


def test_a_wrong_password_and_an_unknown_user_get_the_same_message(cluster: Cluster) -> None:
    """Answers don't reveal which names exist."""
    for host in cluster.http_hosts:
        texts = {
            cluster.client().post(host, "/api/login", {"username": name, "password": "wrong"}).json()["error"]
            for name in ("demo", NOBODY)
        }
        assert len(texts) == 1
