"""10,000 requests that are almost valid: none breaks a node, none changes another client's session."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from lib.cluster import Cluster, eventually
from lib.deployments import pids

if TYPE_CHECKING:
    from .conftest import Attacker

JOURNAL = "journalctl --no-pager --output cat --unit anynode.service"
BROKEN = re.compile(r"WORKER TIMEOUT|Worker \(pid:|Traceback|\" 50[0124] ")  # a worker that ended; an unexpected error


def corpus(name: str, cookie: str, csrf: str) -> list[str]:
    """Return valid requests to every route, of a client that is logged in and doesn't know the password."""
    session = f"Cookie: {cookie}\r\n"

    def request(line: str, headers: str = "", body: str | None = None, kind: str = "application/json") -> str:
        if body is not None:
            headers += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{line} HTTP/1.1\r\nHost: {name}\r\nAccept: */*\r\n{headers}\r\n{body or ''}"

    def form(path: str, headers: str = session, **fields: str) -> str:
        body = "&".join(f"{key}={value}" for key, value in {"csrf": csrf, **fields}.items())
        headers += f"Origin: https://{name}\r\n"
        return request(f"POST {path}", headers, body, "application/x-www-form-urlencoded")

    def api(line: str, headers: str = session, **fields: str) -> str:
        return request(line, headers, json.dumps(fields))

    wrong = {"username": "nobody", "password": "wrong"}
    often = [
        *(request(f"GET {path}", session) for path in ("/", "/sessions", "/api/session", "/api/sessions")),
        *(request(f"GET {path}") for path in ("/healthz", "/readyz", "/static/style.css", "/nothing?a=b")),
        *(request(f"{method} /") for method in ("HEAD", "OPTIONS")),
        *(form("/counter"), form("/note", note="n" * 100)),
        *(api("POST /api/counter"), api("PUT /api/note", note="é" * 10)),
        *(form("/logout", ""), api("POST /api/logout", "")),
        # Without a password: wrong passwords would delay logins of the demo user in other tests.
        *(form("/sessions", "", end="others"), api("DELETE /api/sessions")),
    ]
    # Each password costs the node a hash, so two requests are enough.
    return often * 12 + [form("/login", "", **wrong), api("POST /api/login", "", **wrong)]


def workers(cluster: Cluster) -> list[list[str]]:
    """Return the worker processes of each node."""
    return [cluster.run(host, f"pgrep --parent {pid}").split() for host, pid in pids_by_host(cluster).items()]


def pids_by_host(cluster: Cluster) -> dict[str, str]:
    return dict(zip(cluster.apps, pids(cluster, *cluster.apps), strict=True))


def test_no_request_breaks_a_node_or_a_session(cluster: Cluster, attacker: Attacker) -> None:
    """No 5xx except announced 503, no worker lost, another client's counter and note unchanged."""
    client = cluster.log_in(cluster.balancer)
    client.post(cluster.balancer, "/api/counter")
    assert client.request("PUT", cluster.balancer, "/api/note", json={"note": "mine"}).status_code == 200
    before = client.get(cluster.balancer).json()
    fuzzer = cluster.log_in(cluster.balancer)
    page = fuzzer.get(cluster.balancer, "/", headers={"Accept": "text/html"}).text
    token = re.search(r'name="csrf" value="([^"]*)"', page)
    assert token and fuzzer.cookie
    since = {host: cluster.run(host, "date '+%F %T'") for host in cluster.apps}
    processes = workers(cluster)

    requests = corpus(attacker.victim, fuzzer.cookie, token[1])
    result = attacker.attack("fuzz", corpus=requests, count=10_000, seed=1)

    assert sum(result["statuses"].values()) == 10_000
    assert sum(result["of_nodes"].values()) > 3000, result  # otherwise only the balancer was tested
    assert result["of_nodes"].get("200", 0) > 1000, result  # otherwise only pages without login were tested
    assert fuzzer.get(cluster.balancer).status_code == 200
    assert result["odd"] == []
    assert workers(cluster) == processes
    for host, start in since.items():
        journal = cluster.run(host, f"{JOURNAL} --since '{start}'")
        assert BROKEN.findall(journal) == [], journal
    assert eventually(lambda: client.get(cluster.balancer).status_code == 200)
    after = client.get(cluster.balancer).json()
    assert {key: after[key] for key in ("counter", "note")} == {key: before[key] for key in ("counter", "note")}
