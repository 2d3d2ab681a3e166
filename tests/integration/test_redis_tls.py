"""Redis with TLS: the app requires a certificate of the right CA, for the right name, within its validity period."""

import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_shared_session.redis_client import client_options
from lib.certificates import Authority, Pair
from lib.demo_app import assert_unavailable, log_in, make_app
from lib.redis_server import REDIS_PASSWORD, RedisServer
from redis import Redis, RedisError, SentinelManagedSSLConnection
from redis.sentinel import Sentinel

Serve = Callable[[Pair | None], RedisServer]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def serve(server_name: str, tmp_path: Path) -> Iterator[Serve]:
    """Starts Redis with a certificate, or without TLS."""
    servers = []

    def start(pair: Pair | None) -> RedisServer:
        servers.append(RedisServer(tmp_path, server_name, tls=pair).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def node(server: RedisServer, authority: Authority) -> FlaskClient:
    return make_app(server.port, APP_REDIS_CA_FILE=str(authority.file)).test_client()


@pytest.mark.every_server
def test_sessions_use_tls(serve: Serve, authority: Authority, long_timeouts: None) -> None:
    server = serve(authority.issue("127.0.0.1"))
    client = node(server, authority)
    assert log_in(client).status_code == 200
    assert client.post("/api/counter", json={}).get_json()["counter"] == 1
    assert client.get("/api/session").get_json()["counter"] == 1
    with pytest.raises(RedisError), Redis(port=server.port, **client_options()) as plain:
        plain.ping()


@pytest.mark.every_server
def test_a_new_certificate_is_used_without_closing_connections(
    serve: Serve, authority: Authority, long_timeouts: None
) -> None:
    """The role does this after it has renewed a certificate."""
    old = authority.issue("127.0.0.1", title="old")
    server = serve(old)
    client = node(server, authority)
    assert log_in(client).status_code == 200
    kept = server.admin.client_list()
    new = authority.issue("127.0.0.1", title="new")
    new.certificate.replace(old.certificate)
    new.key.replace(old.key)
    server.admin.execute_command("CONFIG", "SET", "tls-cert-file", str(old.certificate), "tls-key-file", str(old.key))
    assert ssl.get_server_certificate(("127.0.0.1", server.port)).split() == old.certificate.read_text().split()
    assert client.post("/api/counter", json={}).get_json()["counter"] == 1
    assert {each["id"] for each in kept} <= {each["id"] for each in server.admin.client_list()}


INVALID = {
    "another CA": "unable to get local issuer certificate|self-signed certificate",
    "another name": "IP address mismatch",
    "no name": "IP address mismatch",
    "expired": "certificate has expired",
    "not yet valid": "certificate is not yet valid",
    "plain text": "[Tt]imeout|WRONG_VERSION_NUMBER|EOF",
}


@pytest.mark.parametrize("kind", INVALID)
def test_a_redis_with_an_invalid_certificate_gets_no_command(
    serve: Serve, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The client gets 503, the log names the reason, and no command arrives."""
    pairs: dict[str, Callable[[], Pair | None]] = {
        "another CA": lambda: Authority(tmp_path, "other").issue("127.0.0.1"),
        "another name": lambda: authority.issue("127.0.0.2", "localhost"),
        "no name": lambda: authority.issue(title="127.0.0.1"),
        "expired": lambda: authority.issue("127.0.0.1", begins=-2, days=-1),
        "not yet valid": lambda: authority.issue("127.0.0.1", begins=1),
        "plain text": lambda: None,
    }
    server = serve(pairs[kind]())
    client = node(server, authority)
    assert_unavailable(log_in(client))
    logged = [record.getMessage() for record in caplog.records if "session store: " in record.getMessage()]
    assert logged and re.search(INVALID[kind], logged[0]), logged
    assert "app" not in {each["user"] for each in server.admin.client_list()}
    assert server.admin.acl_log() == []


def test_client_options_configure_tls_for_any_client(serve: Serve, authority: Authority, long_timeouts: None) -> None:
    """The options are redis-py's own, so that other clients, such as Sentinel's, can use TLS, too."""
    server = serve(authority.issue("127.0.0.1"))
    account: dict[str, Any] = {"username": "app", "password": REDIS_PASSWORD}
    with Redis(host="127.0.0.1", port=server.port, **account, **client_options(str(authority.file))) as client:
        assert client.exists("anynode:x") == 0
    finder = Sentinel([("127.0.0.1", 1)])
    client = finder.master_for("sessions", **account, **client_options(str(authority.file)))
    assert client.connection_pool.connection_class is SentinelManagedSSLConnection
