"""TLS, host names, response headers and errors of the balancer: a real nginx with the rendered files."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import Cluster, render_all, tool
from lib.balancer_host import Host, nginx
from lib.cluster import eventually
from lib.rendered_nginx import Balancer, Node, balancer, config, configuration

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")

JSON, HTML = {"Accept": "application/json"}, {"Accept": "text/html"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS = "Strict-Transport-Security"
# Variables that differ from the defaults, by name.
CLUSTERS: dict[str, dict[str, Any]] = {
    "default": {},
    "modern": {
        "nginx_tls_profile": "modern",
        "nginx_hsts_seconds": 0,
        "nginx_content_security_policy": "default-src 'self'",
        "nginx_public_tls_port": 443,
    },
    "recent": {"nginx_is_recent": True, "nginx_trusted_proxies": ["192.0.2.0/24"], "nginx_slow_paths": ["^/reports/"]},
}


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cluster]:
    tool("nginx", "nginx-light")
    return render_all(tmp_path_factory, 2, CLUSTERS, limit="nginx")


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, clusters: dict[str, Cluster]) -> Iterator[Balancer]:
    with balancer(tmp_path_factory.mktemp("edge"), clusters["default"], Node()) as lb:
        yield lb


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory, clusters: dict[str, Cluster]) -> Iterator[Balancer]:
    with balancer(tmp_path_factory.mktemp("edge"), clusters["modern"], Node()) as lb:
        yield lb


# --- HTTP redirects to HTTPS ---


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_http_redirects_to_https_with_the_same_method(edge: Balancer, method: str) -> None:
    status, headers, _body, _seconds = edge.request(method, "/a%2Fb?c=d", plain=True)
    assert (status, headers["Location"]) == (308, "https://127.0.0.1:18443/a%2Fb?c=d")
    assert headers["Cache-Control"] == "no-store"  # a cached redirect would affect any other service at this port


def test_the_default_port_is_not_in_the_redirect(modern: Balancer) -> None:
    assert modern.request(plain=True)[1]["Location"] == "https://127.0.0.1/"


def test_acme_challenges_are_served_from_disk(tmp_path: Path, clusters: dict[str, Cluster]) -> None:
    challenges = tmp_path / "acme/.well-known/acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "token").write_text("response")
    cluster = clusters["default"]
    files = tmp_path / "files"
    files.mkdir()
    text = cluster.text("nginx.conf").replace("/var/lib/anynode/acme", str(tmp_path / "acme"))
    (files / "nginx.conf").write_text(text)
    with balancer(tmp_path, replace(cluster, files=files), Node()) as lb:
        status, headers, body, _seconds = lb.request(path="/.well-known/acme-challenge/token", plain=True)
        assert (status, headers["Content-Type"], body) == (200, "text/plain", "response")
        assert lb.request(path="/.well-known/acme-challenge/other", plain=True)[0] == 404
        assert lb.request(path="/.well-known/acme-challenge/../../secret", plain=True)[0] == 308


# --- TLS ---


def handshake(
    lb: Balancer,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ciphers: str = "ALL:@SECLEVEL=0",
    name: str | None = "localhost",
) -> Any:
    """Return the connection of a client that accepts any version and cipher."""
    tls = lb.trust()
    tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, maximum
    tls.set_ciphers(ciphers)
    tls.check_hostname = name is not None
    return lb.connect(tls=tls, name=name)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_versions_are_refused(edge: Balancer, version: str) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(edge, getattr(ssl.TLSVersion, version))


def test_tls_1_2_has_only_the_ciphers_of_mozillas_intermediate_profile(edge: Balancer) -> None:
    """The certificate has an elliptic curve key, so only the ciphers for such keys."""
    every = {each["name"] for each in handshake(edge).context.get_ciphers() if each["protocol"] != "TLSv1.3"}
    accepted = set()
    for cipher in every:
        try:
            with handshake(edge, ssl.TLSVersion.TLSv1_2, f"{cipher}:@SECLEVEL=0") as connection:
                accepted.add(connection.cipher()[0])
        except (ssl.SSLError, ConnectionError):
            pass
    strong = {"AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"}
    assert accepted == {f"ECDHE-ECDSA-{each}" for each in strong}


def test_the_modern_profile_is_tls_1_3_only(modern: Balancer) -> None:
    assert handshake(modern).version() == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(modern, ssl.TLSVersion.TLSv1_2)


def test_sessions_are_resumed_without_tickets(edge: Balancer) -> None:
    """With TLS 1.2, where Python shows whether a session has a ticket."""
    tls = edge.trust()
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with edge.connect(tls=tls) as first:
        session = first.session
    assert not session.has_ticket
    with edge.connect(tls=tls, session=session) as second:
        assert second.session_reused


# --- names ---


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.0.2.99", "xlocalhost"])
def test_unknown_hosts_are_refused(edge: Balancer, plain: bool, host: str) -> None:
    for accept in (JSON, HTML):
        status, headers, body, _seconds = edge.request(headers=accept | {"Host": host}, plain=plain)
        assert (status, headers["Content-Type"]) == (421, accept["Accept"])
        assert "This host name is not served here." in body
        assert headers["X-Request-ID"] in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8443", "127.0.0.1", "[::1]", "[::1]:8443", "localhost."])
def test_known_names_and_addresses_are_served(edge: Balancer, host: str) -> None:
    """Also without a name in the handshake, where clients that use an IP address send none."""
    with handshake(edge, name=None) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {edge.bypass['Cookie']}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert edge.request(headers={"Host": host}, plain=True)[0] == 308


# --- response headers ---


RESPONSES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "from a node": ("GET", "/", {}, 200),
    "redirect": ("GET", "/", {"plain": True}, 308),
    "unknown host": ("GET", "/", {"headers": {"Host": "evil.example"}}, 421),
    "unknown host, plain": ("GET", "/", {"headers": {"Host": "evil.example"}, "plain": True}, 421),
    "too large": ("POST", "/", {"body": b"x" * 70_000}, 413),
    "malformed": ("GET", "/%00", {}, 400),
    "malformed, plain": ("GET", "/%00", {"plain": True}, 400),
    "unsupported method": ("TRACE", "/", {}, 405),
    "long path": ("GET", "/" + "x" * 10_000, {}, 414),
    "large header": ("GET", "/", {"headers": {"Cookie": "x" * 65_536}}, 431),
    "wrong token": ("GET", "/.balancer/bypass/wrong", {}, 404),
    "internal error page": ("GET", "/.balancer/error.json", {}, 404),
    "maintenance": ("GET", "/", {"headers": {"Cookie": "maintenance_bypass=wrong"}}, 503),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_every_response_has_every_header_once(edge: Balancer, name: str) -> None:
    method, path, options, expected = RESPONSES[name]
    status, headers, body, _seconds = edge.request(method, path, **options)
    assert status == expected
    for header, value in HEADERS.items():
        assert headers.get_all(header) == [value]
    assert headers.get_all(HSTS) == (None if options.get("plain") else ["max-age=63072000"])
    assert headers.get_all("Server") == ["nginx"]
    assert not re.search(r"nginx/|\d\.\d", f"{headers['Server']} {body}")
    if status >= 400:
        assert json.loads(body)["request_id"] == headers["X-Request-ID"]
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
def test_headers_of_the_app_take_precedence(edge: Balancer, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    headers = {name: "set by the app" for name in [*HEADERS, HSTS, "Cache-Control", "Retry-After", "X-Request-ID"]}
    monkeypatch.setattr(edge.node, "status", status)
    monkeypatch.setattr(edge.node, "headers", headers)
    forwarded, received, body, _seconds = edge.request()
    assert (forwarded, body) == (status, "from the node")
    assert {name: received.get_all(name) for name in headers} == {name: [value] for name, value in headers.items()}


def test_headers_follow_the_inventory(modern: Balancer) -> None:
    """HSTS can be disabled, as for localhost."""
    headers = modern.request()[1]
    assert headers[HSTS] is None
    assert headers["Content-Security-Policy"] == "default-src 'self'"


def test_the_bypass_url_sets_a_cookie_for_https_only(edge: Balancer) -> None:
    token = edge.bypass["Cookie"].partition("=")[2]
    status, headers, _body, _seconds = edge.request(path=f"/.balancer/bypass/{token}", headers={"Cookie": ""})
    assert (status, headers["Location"], headers["Cache-Control"]) == (303, "/", "no-store")
    assert headers.get_all("Set-Cookie") == [f"maintenance_bypass={token}; Path=/; Secure; HttpOnly; SameSite=Lax"]
    assert headers["X-Frame-Options"] == "DENY"
    assert edge.request()[1]["Set-Cookie"] is None


def test_the_bypass_url_is_never_logged(tmp_path: Path, clusters: dict[str, Cluster]) -> None:
    with balancer(tmp_path, clusters["default"], Node()) as lb:
        lb.request(path="/.balancer/bypass/some-token")
        lb.request(path="/.balancer/%62ypass/some-token")
        for path in ("/.balancer/bypass/some-token", "/.balancer/%62ypass/some-token?x"):  # without https://
            assert lb.request(path=path, plain=True)[0] == 308
        assert lb.request(path="/.balancer/bypass/some-token", headers={"Host": "other.example"})[0] == 421
        lb.request(path="/shop")
    log = (tmp_path / "access.log").read_text()
    assert "/shop" in log
    assert "some-token" not in log + (tmp_path / "error.log").read_text()


# --- the configuration ---


def test_a_reload_adds_tls_to_a_balancer_without(tmp_path: Path, clusters: dict[str, Cluster]) -> None:
    with balancer(tmp_path, clusters["default"], Node()) as lb:
        whole = (tmp_path / "nginx.conf").read_text()
        pid = int((tmp_path / "nginx.pid").read_text())

        def load(text: str) -> None:
            (tmp_path / "nginx.conf").write_text(text)
            os.kill(pid, signal.SIGHUP)

        def speaks_tls() -> bool:
            try:
                return bool(lb.request()[0] == 200)
            except ConnectionError:
                return False

        load(re.sub(r"listen \S+ ssl.*", "", whole))
        assert eventually(lambda: not speaks_tls())
        load(whole)
        assert eventually(speaks_tls)
        assert lb.request(plain=True)[0] == 308
        assert int((tmp_path / "nginx.pid").read_text()) == pid


def test_an_upgrade_replaces_nginx_conf_and_maintenance_conf_in_one_step(
    tmp_path: Path, clusters: dict[str, Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old maintenance.conf has other variables, so that nginx accepts it with the old nginx.conf only."""
    path = configuration(tmp_path, clusters["default"], {"app1": "192.0.2.31:8000"})
    content = path.read_text()
    old = '# on: {"by": "ada@desk", "why": "new disk"}\nmap $is_let_in $is_turned_away {\n    default 1;\n}\n'
    (tmp_path / "maintenance.conf").write_text(old)
    (tmp_path / "maintenance-bypass.conf").write_text("map $cookie_maintenance $is_let_in {\n    default 0;\n}\n")
    path.write_text(f"events {{}} http {{ include {tmp_path}/maintenance*.conf; }}")
    program = tool("nginx", "nginx-light")

    def run(*_command: str) -> tuple[int, str]:
        done = subprocess.run([program, "-t", "-c", path], stderr=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stderr

    host = Host(tmp_path / "host", config=tmp_path)
    host.patch(monkeypatch, config)
    monkeypatch.setattr(nginx, "run", run)
    assert run()[0] == 0
    with pytest.raises(nginx.NginxError, match="bypass_token_valid"):
        config.apply(False, content=content)
    assert ((tmp_path / "maintenance.conf").read_text(), run()[0]) == (old, 0)
    result = config.apply(False, content=content, bypass_token="token")
    assert (result["maintenance"], run()[0]) == ({"by": "ada@desk", "reason": "new disk"}, 0)


def test_http_2_and_groups_are_configured_for_the_version_of_nginx(clusters: dict[str, Cluster]) -> None:
    """nginx 1.26 warns of the parameter that 1.22 needs, and 1.22 refuses the directive; OpenSSL 3.0 has no ML-KEM."""
    old, recent = clusters["default"].text("nginx.conf"), clusters["recent"].text("nginx.conf")
    assert ("ssl http2" in old, "http2 on;" in old, "MLKEM" in old) == (True, False, False)
    assert ("ssl http2" in recent, "http2 on;" in recent, "MLKEM" in recent) == (False, True, True)


@pytest.mark.parametrize("name", ["default", "recent"])  # it reports a configuration without HSTS
def test_gixy_finds_nothing(tmp_path: Path, clusters: dict[str, Cluster], name: str) -> None:
    gixy = shutil.which("gixy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not gixy:
        pytest.skip("gixy is not installed: run `make`")
    path = configuration(tmp_path, clusters[name], {"app1": "192.0.2.31:8000", "app2": "192.0.2.32:8000"})
    done = subprocess.run([gixy, path], capture_output=True, text=True, check=False)
    assert (done.returncode, "No issues found." in done.stdout) == (0, True), done.stdout + done.stderr
