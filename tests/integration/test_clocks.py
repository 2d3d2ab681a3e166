"""Two nodes with clocks twenty minutes apart behave like nodes with correct clocks."""

import http.cookiejar
import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
from lib.app_nodes import WRONG_CLOCK, start_node, stop_nodes, wait_until_healthy
from lib.demo_app import PASSWORD, USER, environ
from lib.redis_server import RedisServer

IDLE, LIFETIME = 300, 400  # seconds: less than the error of the clocks


class Client:
    """Sends requests to any node, like a single browser; cookies don't depend on the port."""

    def __init__(self) -> None:
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def request(
        self, port: int, path: str, form: Mapping[str, str] | None = None, body: Mapping[str, object] | None = None
    ) -> HTTPResponse:
        """The response to a GET, or to a POST of a form or of JSON. Follows redirects. port: of the node."""
        data = urlencode(form) if form else json.dumps(body) if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        url = f"http://127.0.0.1:{port}{path}"
        response: HTTPResponse = self._opener.open(
            urllib.request.Request(url, data.encode() if data else None, headers), timeout=10
        )
        return response

    def page(self, port: int, path: str, form: Mapping[str, str] | None = None) -> str:
        return self.request(port, path, form).read().decode()

    def json(self, port: int, path: str, body: Mapping[str, object] | None = None) -> Any:
        return json.load(self.request(port, path, body=body))

    def token(self, port: int) -> str:
        found = re.search(r'name="csrf" value="([^"]*)"', self.page(port, "/"))
        assert found
        return found[1]


@pytest.fixture(scope="module")
def nodes(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """The ports of two nodes: the clock of the first is ahead, the clock of the second is behind."""
    log = tmp_path_factory.mktemp("nodes") / "log"
    settings = {"APP_SESSION_IDLE_SECONDS": str(IDLE), "APP_SESSION_LIFETIME_SECONDS": str(LIFETIME)}
    with log.open("w") as file:
        started = [
            start_node(environ(shared_redis.port, **settings), file, threads=2, program=(WRONG_CLOCK, str(shift)))
            for shift in (600, -600)
        ]
    try:
        for _, port in started:
            wait_until_healthy(port, log)
        yield [port for _, port in started]
    finally:
        stop_nodes([process for process, _ in started])


@pytest.fixture(params=["from ahead to behind", "from behind to ahead"])
def pair(nodes: list[int], redis: RedisServer, request: pytest.FixtureRequest) -> list[int]:
    return nodes if request.param == "from ahead to behind" else nodes[::-1]


def test_control_the_clocks_are_wrong(nodes: list[int]) -> None:
    ahead, behind = (parsedate_to_datetime(Client().request(node, "/healthz").headers["Date"]) for node in nodes)
    assert 1195 < (ahead - behind).total_seconds() < 1260
    assert 550 < (ahead - datetime.now(UTC)).total_seconds() < 605


def test_a_form_of_a_node_is_accepted_on_the_other_node(pair: list[int]) -> None:
    one, other = pair
    client = Client()
    form = {"csrf": client.token(one), "username": USER, "password": PASSWORD}
    assert "Session started" in client.page(other, "/login", form)
    assert "written here" in client.page(one, "/note", {"csrf": client.token(other), "note": "written here"})


def test_a_session_expires_by_the_clock_of_redis(pair: list[int], redis: RedisServer) -> None:
    one, other = pair
    before = _now(redis)
    client = Client()
    response = client.request(one, "/api/login", body={"username": USER, "password": PASSWORD})
    (line,) = [each for each in response.headers.get_all("Set-Cookie", []) if each.startswith("session=")]
    assert not re.search("expires|max-age", line, re.IGNORECASE)
    for node in (other, one, other):
        assert client.json(node, "/api/counter", body={"a": 1})["counter"]
    (key,) = redis.session_keys()
    fields = redis.admin.hgetall(key)
    created, seen, expires = (int(fields[name]) for name in ("m:created", "m:seen", "m:expires"))
    assert before <= created <= seen <= _now(redis)
    assert expires == created + LIFETIME * 1000
    assert 0 < redis.admin.pttl(key) <= IDLE * 1000
    redis.admin.hset(key, "m:expires", _now(redis) + 200_000)
    client.json(one, "/api/counter", body={"a": 1})
    assert 0 < redis.admin.pttl(key) <= 200_000


def test_both_nodes_report_the_same_times(pair: list[int], redis: RedisServer) -> None:
    one, other = pair
    client = Client()
    began = client.json(one, "/api/login", body={"username": USER, "password": PASSWORD})["started_at"]
    assert client.json(other, "/api/session")["started_at"] == began
    assert abs(datetime.fromisoformat(began).timestamp() * 1000 - _now(redis)) < 60_000
    (here,), (there,) = (client.json(node, "/api/sessions")["sessions"] for node in pair)
    assert here == there
    assert here["started_at"] == began


def test_a_logout_on_a_node_is_valid_on_the_other_node(pair: list[int]) -> None:
    one, other = pair
    client = Client()
    client.json(one, "/api/login", body={"username": USER, "password": PASSWORD})
    assert client.json(other, "/api/logout", body={"a": 1}) == {"ok": True}
    for node in pair:
        with pytest.raises(HTTPError, match="401"):
            client.request(node, "/api/session")


def _now(redis: RedisServer) -> int:
    seconds, microseconds = redis.admin.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
