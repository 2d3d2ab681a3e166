"""Two nodes whose clocks are twenty minutes apart: nobody notices."""

import http.cookiejar
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

import pytest
from lib.demo_app import PASSWORD, USER, environ
from lib.redis_server import free_port

IDLE, LIFETIME = 300, 400  # seconds: less than the clocks are wrong by


class Node:
    """A node under gunicorn, for which it is another time."""

    def __init__(self, redis_port, shift):
        self.port = free_port()
        settings = {"APP_SESSION_IDLE_SECONDS": str(IDLE), "APP_SESSION_LIFETIME_SECONDS": str(LIFETIME)}
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("wrong_clock.py"), str(shift), "--log-level", "warning"]
            + ["--threads", "2", "--bind", f"127.0.0.1:{self.port}", "anynode:create_app()"],
            env=os.environ | environ(redis_port, **settings) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )


class Visitor:
    """Asks any node, as one browser; cookies don't depend on the port."""

    def __init__(self):
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def ask(self, node, path, form=None, body=None):
        """The response to a GET, or to a POST of a form or of JSON. Redirects are followed."""
        data = urlencode(form) if form else json.dumps(body) if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        url = f"http://127.0.0.1:{node.port}{path}"
        return self._opener.open(urllib.request.Request(url, data and data.encode(), headers), timeout=10)

    def page(self, node, path, form=None) -> str:
        return self.ask(node, path, form).read().decode()

    def json(self, node, path, body=None):
        return json.load(self.ask(node, path, body=body))

    def token(self, node) -> str:
        return re.search(r'name="csrf" value="([^"]*)"', self.page(node, "/"))[1]


@pytest.fixture(scope="module")
def nodes(shared_redis):
    nodes = [Node(shared_redis.port, shift) for shift in (600, -600)]
    try:
        deadline = time.monotonic() + 30
        for node in nodes:
            while True:
                try:
                    Visitor().ask(node, "/healthz")
                    break
                except URLError:
                    assert node.process.poll() is None and time.monotonic() < deadline, "a node did not start"
                    time.sleep(0.05)
        yield nodes
    finally:
        for node in nodes:
            node.process.terminate()
        for node in nodes:
            node.process.wait()


@pytest.fixture(params=["from ahead to behind", "from behind to ahead"])
def pair(nodes, redis, request):
    return nodes if request.param == "from ahead to behind" else nodes[::-1]


def test_control_the_clocks_are_wrong(nodes):
    ahead, behind = (parsedate_to_datetime(Visitor().ask(node, "/healthz").headers["Date"]) for node in nodes)
    assert 1195 < (ahead - behind).total_seconds() < 1260
    assert 550 < (ahead - datetime.now(UTC)).total_seconds() < 605


def test_a_form_made_on_one_node_is_accepted_on_the_other(pair):
    one, other = pair
    visitor = Visitor()
    form = {"csrf": visitor.token(one), "username": USER, "password": PASSWORD}
    assert "Session began" in visitor.page(other, "/login", form)
    assert "written here" in visitor.page(one, "/note", {"csrf": visitor.token(other), "note": "written here"})


def test_a_session_lives_as_long_as_redis_says(pair, redis):
    one, other = pair
    before = _now(redis)
    visitor = Visitor()
    response = visitor.ask(one, "/api/login", body={"username": USER, "password": PASSWORD})
    (line,) = [each for each in response.headers.get_all("Set-Cookie") if each.startswith("session=")]
    assert not re.search("expires|max-age", line, re.IGNORECASE)
    for node in (other, one, other):
        assert visitor.json(node, "/api/counter", body={"a": 1})["counter"]
    (key,) = redis.session_keys()
    fields = redis.admin.hgetall(key)
    created, seen, expires = (int(fields[name]) for name in ("m:created", "m:seen", "m:expires"))
    assert before <= created <= seen <= _now(redis)
    assert expires == created + LIFETIME * 1000
    assert 0 < redis.admin.pttl(key) <= IDLE * 1000
    redis.admin.hset(key, "m:expires", _now(redis) + 200_000)
    visitor.json(one, "/api/counter", body={"a": 1})
    assert 0 < redis.admin.pttl(key) <= 200_000


def test_both_nodes_tell_the_same_times(pair, redis):
    one, other = pair
    visitor = Visitor()
    began = visitor.json(one, "/api/login", body={"username": USER, "password": PASSWORD})["started_at"]
    assert visitor.json(other, "/api/session")["started_at"] == began
    assert abs(datetime.fromisoformat(began).timestamp() * 1000 - _now(redis)) < 60_000
    (here,), (there,) = (visitor.json(node, "/api/sessions")["sessions"] for node in pair)
    assert here == there
    assert here["started_at"] == began


def test_what_ends_on_one_node_has_ended_on_the_other(pair):
    one, other = pair
    visitor = Visitor()
    visitor.json(one, "/api/login", body={"username": USER, "password": PASSWORD})
    assert visitor.json(other, "/api/logout", body={"a": 1}) == {"ok": True}
    for node in pair:
        with pytest.raises(HTTPError, match="401"):
            visitor.ask(node, "/api/session")


def _now(redis) -> int:
    seconds, microseconds = redis.admin.time()
    return seconds * 1000 + microseconds // 1000
