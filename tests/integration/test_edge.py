"""What a visitor meets first: TLS, names, headers, the balancer's own words. A real nginx with the rendered files."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from lib.ansible_runs import render_all, tool
from lib.cluster import eventually
from lib.rendered_nginx import Node, balancer, configuration

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
# By name: what differs from the defaults.
CLUSTERS = {
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
def clusters(tmp_path_factory):
    tool("nginx", "nginx-light")
    return render_all(tmp_path_factory, 2, CLUSTERS)


def running(tmp_path_factory, cluster, **node):
    return balancer(tmp_path_factory.mktemp("edge"), cluster, Node(**node))


@pytest.fixture(scope="module")
def edge(tmp_path_factory, clusters):
    with running(tmp_path_factory, clusters["default"]) as lb:
        yield lb


@pytest.fixture(scope="module")
def modern(tmp_path_factory, clusters):
    with running(tmp_path_factory, clusters["modern"]) as lb:
        yield lb


# --- HTTP leads to HTTPS ---


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_http_leads_to_https_by_the_same_method(edge, method):
    status, headers, _body, _seconds = edge.ask(method, "/a%2Fb?c=d", plain=True)
    assert (status, headers["Location"]) == (308, "https://127.0.0.1:18443/a%2Fb?c=d")
    assert headers["Cache-Control"] == "no-store"  # or a browser would keep it for all that listens at this port


def test_the_usual_port_is_not_named(modern):
    assert modern.ask(plain=True)[1]["Location"] == "https://127.0.0.1/"


def test_challenges_of_certificate_authorities_are_answered_from_disk(tmp_path, clusters):
    challenges = tmp_path / "acme/.well-known/acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "token").write_text("own words")
    cluster = clusters["default"]
    folder = tmp_path / "edge"
    shutil.copytree(cluster.files, folder)
    text = cluster.text("nginx.conf").replace("/var/lib/anynode/acme", str(tmp_path / "acme"))
    (folder / "nginx.conf").write_text(text)
    with balancer(tmp_path, type(cluster)(folder, cluster.addresses, cluster.secrets), Node()) as lb:
        status, headers, body, _seconds = lb.ask(path="/.well-known/acme-challenge/token", plain=True)
        assert (status, headers["Content-Type"], body) == (200, "text/plain", "own words")
        assert lb.ask(path="/.well-known/acme-challenge/other", plain=True)[0] == 404
        assert lb.ask(path="/.well-known/acme-challenge/../../secret", plain=True)[0] == 308


# --- TLS ---


def handshake(lb, maximum=ssl.TLSVersion.TLSv1_3, ciphers="ALL:@SECLEVEL=0", name="localhost"):
    """Return the connection of a client that is not choosy."""
    tls = lb.trust()
    tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, maximum
    tls.set_ciphers(ciphers)
    tls.check_hostname = name is not None
    return lb.connect(tls=tls, name=name)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(edge, version):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(edge, getattr(ssl.TLSVersion, version))


def test_tls_1_2_has_the_ciphers_of_mozillas_intermediate_profile_alone(edge):
    """Those for a certificate with an elliptic key, as this one has."""
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


def test_the_modern_profile_is_tls_1_3_alone(modern):
    assert handshake(modern).version() == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(modern, ssl.TLSVersion.TLSv1_2)


def test_sessions_are_resumed_without_tickets(edge):
    """Of TLS 1.2, where a session is all there is; a ticket's key would outlive it."""
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
def test_unknown_hosts_are_refused(edge, plain, host):
    for accept in (JSON, HTML):
        status, headers, body, _seconds = edge.ask(headers=accept | {"Host": host}, plain=plain)
        assert (status, headers["Content-Type"]) == (421, accept["Accept"])
        assert "This host name is not served here." in body
        assert headers["X-Request-ID"] in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8443", "127.0.0.1", "[::1]", "[::1]:8443", "localhost."])
def test_known_names_and_addresses_are_served(edge, host):
    """A name that is served, whatever was said in the handshake: who comes by an address says nothing there."""
    with handshake(edge, name=None) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {edge.let_in['Cookie']}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert edge.ask(headers={"Host": host}, plain=True)[0] == 308


# --- headers ---


ANSWERS = {
    "of a node": ("GET", "/", {}, 200),
    "redirect": ("GET", "/", {"plain": True}, 308),
    "unknown host": ("GET", "/", {"headers": {"Host": "evil.example"}}, 421),
    "unknown host, plain": ("GET", "/", {"headers": {"Host": "evil.example"}, "plain": True}, 421),
    "too large": ("POST", "/", {"body": b"x" * 70_000}, 413),
    "malformed": ("GET", "/%00", {}, 400),
    "malformed, plain": ("GET", "/%00", {"plain": True}, 400),
    "no such method": ("TRACE", "/", {}, 405),
    "long path": ("GET", "/" + "x" * 10_000, {}, 414),
    "large header": ("GET", "/", {"headers": {"Cookie": "x" * 65_536}}, 431),
    "wrong key": ("GET", "/.balancer/enter/wrong", {}, 404),
    "error itself": ("GET", "/.balancer/error.json", {}, 404),
    "maintenance": ("GET", "/", {"headers": {"Cookie": "maintenance=wrong"}}, 503),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_has_every_header_once(edge, name):
    method, path, options, expected = ANSWERS[name]
    status, headers, body, _seconds = edge.ask(method, path, **options)
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
def test_what_an_app_sets_itself_stays_as_it_is(tmp_path_factory, clusters, status):
    own = {name: "own" for name in [*HEADERS, HSTS, "Cache-Control", "Retry-After", "X-Request-ID"]}
    with running(tmp_path_factory, clusters["default"], status=status, headers=own) as lb:
        answered, headers, body, _seconds = lb.ask()
    assert (answered, body) == (status, "own words")
    assert {name: headers.get_all(name) for name in own} == {name: ["own"] for name in own}


def test_headers_follow_the_inventory(modern):
    """Browsers aren't told to remember HTTPS where they must not, as for localhost."""
    headers = modern.ask()[1]
    assert headers[HSTS] is None
    assert headers["Content-Security-Policy"] == "default-src 'self'"


def test_the_way_in_gives_a_cookie_for_https_alone(edge):
    key = edge.let_in["Cookie"].partition("=")[2]
    status, headers, _body, _seconds = edge.ask(path=f"/.balancer/enter/{key}", headers={"Cookie": ""})
    assert (status, headers["Location"], headers["Cache-Control"]) == (303, "/", "no-store")
    assert headers.get_all("Set-Cookie") == [f"maintenance={key}; Path=/; Secure; HttpOnly; SameSite=Lax"]
    assert headers["X-Frame-Options"] == "DENY"
    assert edge.ask()[1]["Set-Cookie"] is None


def test_who_asks_to_be_let_in_is_not_logged(tmp_path, clusters):
    with balancer(tmp_path, clusters["default"], Node()) as lb:
        lb.ask(path="/.balancer/enter/some-key")
        lb.ask(path="/.balancer/%65nter/some-key")
        for path in ("/.balancer/enter/some-key", "/.balancer/%65nter/some-key?x"):  # typed without https://
            assert lb.ask(path=path, plain=True)[0] == 308
        assert lb.ask(path="/.balancer/enter/some-key", headers={"Host": "other.example"})[0] == 421
        lb.ask(path="/shop")
    log = (tmp_path / "access.log").read_text()
    assert "/shop" in log
    assert "some-key" not in log + (tmp_path / "error.log").read_text()


# --- the configuration itself ---


def test_a_balancer_without_tls_takes_it_up_by_a_reload(tmp_path, clusters):
    with balancer(tmp_path, clusters["default"], Node()) as lb:
        whole = (tmp_path / "nginx.conf").read_text()
        pid = int((tmp_path / "nginx.pid").read_text())

        def load(text):
            (tmp_path / "nginx.conf").write_text(text)
            os.kill(pid, signal.SIGHUP)

        def speaks_tls():
            try:
                return lb.ask()[0] == 200
            except ConnectionError:
                return False

        load(re.sub(r"listen \S+ ssl.*", "", whole))
        assert eventually(lambda: not speaks_tls())
        load(whole)
        assert eventually(speaks_tls)
        assert lb.ask(plain=True)[0] == 308
        assert int((tmp_path / "nginx.pid").read_text()) == pid


def test_each_nginx_is_told_of_http_2_in_its_own_words(clusters):
    """nginx 1.26 warns of what 1.22 needs, and 1.22 refuses what 1.26 wants; so it is with OpenSSL's new group."""
    old, recent = clusters["default"].text("nginx.conf"), clusters["recent"].text("nginx.conf")
    assert ("ssl http2" in old, "http2 on;" in old, "MLKEM" in old) == (True, False, False)
    assert ("ssl http2" in recent, "http2 on;" in recent, "MLKEM" in recent) == (False, True, True)


@pytest.mark.parametrize("name", ["default", "recent"])  # it misses HSTS where there is none
def test_gixy_finds_nothing(tmp_path, clusters, name):
    gixy = shutil.which("gixy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not gixy:
        pytest.skip("gixy is not installed: run `make`")
    path = configuration(tmp_path, clusters[name], {"app1": "192.0.2.31:8000", "app2": "192.0.2.32:8000"})
    done = subprocess.run([gixy, path], capture_output=True, text=True, check=False)
    assert (done.returncode, "No issues found." in done.stdout) == (0, True), done.stdout + done.stderr
