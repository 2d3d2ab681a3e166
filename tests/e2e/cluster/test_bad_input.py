"""Bad input: the right status, a clear message, and the session as it was; on every node and through the balancer."""

import secrets

import pytest

COOKIE = "__Host-session="
UNKNOWN = COOKIE + "A" * 45
NOBODY = f"nobody-{secrets.token_hex(4)}"  # another one in each run: its failures are remembered for a while


@pytest.fixture
def session(cluster):
    """A visitor with a counter of 1 and a note, which must be so at the end, too."""
    visitor = cluster.log_in(cluster.apps[0])
    visitor.post(cluster.apps[0], "/api/counter")
    assert visitor.request("PUT", cluster.apps[0], "/api/note", json={"note": "mine"}).status_code == 200
    yield visitor
    for host in cluster.doors:
        body = visitor.get(host).json()
        assert (body["counter"], body["note"]) == (1, "mine")


BAD = {
    "a wrong password": (401, "POST", "/api/login", {"json": {"username": "demo", "password": "wrong"}}),
    "an unknown user": (401, "POST", "/api/login", {"json": {"username": NOBODY, "password": "wrong"}}),
    "a forged cookie": (401, "GET", "/api/session", {"headers": {"Cookie": COOKIE + "../../etc/passwd"}}),
    "a foreign cookie": (401, "GET", "/api/session", {"headers": {"Cookie": UNKNOWN}}),
    "a long cookie": (401, "GET", "/api/session", {"headers": {"Cookie": COOKIE + "A" * 3900}}),
    "an oversized cookie": ((400, 431), "GET", "/api/session", {"headers": {"Cookie": COOKIE + "A" * 16000}}),
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


@pytest.mark.parametrize("what", BAD)
def test_bad_input(cluster, session, what):
    """See BAD for what is sent and what must come back."""
    statuses, method, path, options = BAD[what]
    statuses = statuses if isinstance(statuses, tuple) else (statuses,)  # nginx and gunicorn differ in one
    for host in cluster.doors:
        answer = session.request(method, host, path, **options)
        assert answer.status_code in statuses, f"{host}: {answer.status_code} {answer.text[:200]}"
        assert "Traceback" not in answer.text
        if "oversized" not in what:  # turned away by the server before there is a request
            assert answer.json()["error"]
            assert answer.json()["request_id"]


def test_a_wrong_password_and_an_unknown_user_get_the_same_words(cluster):
    """Nobody learns which names exist."""
    for host in cluster.doors:
        texts = {
            cluster.visitor().post(host, "/api/login", {"username": name, "password": "wrong"}).json()["error"]
            for name in ("demo", NOBODY)
        }
        assert len(texts) == 1
