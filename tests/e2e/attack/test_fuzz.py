"""10,000 requests that are nearly right: none breaks a node, none changes a session that isn't the sender's."""

import json
import re

from lib.cluster import eventually
from lib.deployments import pids

JOURNAL = "journalctl --no-pager --output cat --unit anynode.service"
BROKEN = re.compile(
    r"WORKER TIMEOUT|Worker \(pid:|Traceback|\" 50[0124] "
)  # a worker that ends; an error nobody foresaw


def corpus(name, cookie, csrf):
    """Real requests to every route, by someone who is logged in and doesn't know the password."""
    session = f"Cookie: {cookie}\r\n"

    def request(line, headers="", body=None, kind="application/json"):
        if body is not None:
            headers += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{line} HTTP/1.1\r\nHost: {name}\r\nAccept: */*\r\n{headers}\r\n{body or ''}"

    def form(path, headers=session, **fields):
        body = "&".join(f"{key}={value}" for key, value in {"csrf": csrf, **fields}.items())
        headers += f"Origin: https://{name}\r\n"
        return request(f"POST {path}", headers, body, "application/x-www-form-urlencoded")

    def api(line, headers=session, **fields):
        return request(line, headers, json.dumps(fields))

    wrong = {"username": "nobody", "password": "wrong"}
    often = [
        *(request(f"GET {path}", session) for path in ("/", "/sessions", "/api/session", "/api/sessions")),
        *(request(f"GET {path}") for path in ("/healthz", "/readyz", "/static/style.css", "/nothing?a=b")),
        *(request(f"{method} /") for method in ("HEAD", "OPTIONS")),
        *(form("/counter"), form("/note", note="n" * 100)),
        *(api("POST /api/counter"), api("PUT /api/note", note="é" * 10)),
        *(form("/logout", ""), api("POST /api/logout", "")),
        # Without a password: wrong ones would make the account, which other tests use, wait.
        *(form("/sessions", "", end="others"), api("DELETE /api/sessions")),
    ]
    # A password costs the node a hash each time; a few are enough.
    return often * 12 + [form("/login", "", **wrong), api("POST /api/login", "", **wrong)]


def workers(cluster):
    """The processes that serve on each node."""
    return [cluster.run(host, f"pgrep --parent {pid}").split() for host, pid in pids_by_host(cluster).items()]


def pids_by_host(cluster):
    return dict(zip(cluster.apps, pids(cluster, *cluster.apps), strict=True))


def test_no_request_breaks_a_node_or_a_session(cluster, attacker):
    """No 5xx but an announced one, no worker lost, another visitor's counter and note as they were."""
    visitor = cluster.log_in(cluster.balancer)
    visitor.post(cluster.balancer, "/api/counter")
    assert visitor.request("PUT", cluster.balancer, "/api/note", json={"note": "mine"}).status_code == 200
    before = visitor.get(cluster.balancer).json()
    fuzzer = cluster.log_in(cluster.balancer)
    page = fuzzer.get(cluster.balancer, "/", headers={"Accept": "text/html"}).text
    csrf = re.search(r'name="csrf" value="([^"]*)"', page)[1]
    since = {host: cluster.run(host, "date '+%F %T'") for host in cluster.apps}
    processes = workers(cluster)

    requests = corpus(attacker.victim, fuzzer.cookie, csrf)
    result = attacker.attack("fuzz", corpus=requests, count=10_000, seed=1)

    assert sum(result["statuses"].values()) == 10_000
    assert sum(result["of_nodes"].values()) > 3000, result  # or nothing was tried but the balancer
    assert result["of_nodes"].get("200", 0) > 1000, result  # nor anything but the pages of who isn't logged in
    assert fuzzer.get(cluster.balancer).status_code == 200
    assert result["odd"] == []
    assert workers(cluster) == processes
    for host, start in since.items():
        journal = cluster.run(host, f"{JOURNAL} --since '{start}'")
        assert BROKEN.findall(journal) == [], journal
    assert eventually(lambda: visitor.get(cluster.balancer).status_code == 200)
    after = visitor.get(cluster.balancer).json()
    assert {key: after[key] for key in ("counter", "note")} == {key: before[key] for key in ("counter", "note")}
