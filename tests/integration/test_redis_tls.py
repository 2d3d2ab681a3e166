"""Redis behind TLS: the app talks only to one who shows a certificate of the right CA, for the right name, in time."""

import re
import ssl

import pytest
from anynode.config import ConfigError
from anynode.redis_client import client_options
from lib.certificates import Authority
from lib.demo_app import assert_honest, log_in, make_app
from lib.redis_server import REDIS_PASSWORD, RedisServer
from redis import Redis, RedisError, SentinelManagedSSLConnection
from redis.sentinel import Sentinel


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def serve(server_name, tmp_path):
    """Start a Redis that shows a pair, or none."""
    servers = []

    def start(pair):
        servers.append(RedisServer(tmp_path, server_name, tls=pair).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def node(server, authority):
    return make_app(server.port, APP_REDIS_CA_FILE=str(authority.file)).test_client()


@pytest.mark.every_server
def test_sessions_travel_over_tls(serve, authority, unhurried):
    server = serve(authority.issue("127.0.0.1"))
    visitor = node(server, authority)
    assert log_in(visitor).status_code == 200
    assert visitor.post("/api/counter", json={}).json["counter"] == 1
    assert visitor.get("/api/session").json["counter"] == 1
    with pytest.raises(RedisError), Redis(port=server.port, **client_options()) as plain:
        plain.ping()


@pytest.mark.every_server
def test_a_new_certificate_is_shown_without_losing_a_connection(serve, authority, unhurried):
    """What the role does when it has renewed one."""
    old = authority.issue("127.0.0.1", title="old")
    server = serve(old)
    visitor = node(server, authority)
    assert log_in(visitor).status_code == 200
    kept = server.admin.client_list()
    new = authority.issue("127.0.0.1", title="new")
    new.certificate.replace(old.certificate)
    new.key.replace(old.key)
    server.admin.execute_command("CONFIG", "SET", "tls-cert-file", str(old.certificate), "tls-key-file", str(old.key))
    assert ssl.get_server_certificate(("127.0.0.1", server.port)).split() == old.certificate.read_text().split()
    assert visitor.post("/api/counter", json={}).json["counter"] == 1
    assert {each["id"] for each in kept} <= {each["id"] for each in server.admin.client_list()}


WRONG = {
    "another CA": "unable to get local issuer certificate|self-signed certificate",
    "another name": "IP address mismatch",
    "no name": "IP address mismatch",
    "ended": "certificate has expired",
    "not begun": "certificate is not yet valid",
    "plain text": "[Tt]imeout|WRONG_VERSION_NUMBER|EOF",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_redis_that_can_not_prove_who_it_is_is_not_spoken_to(serve, authority, tmp_path, caplog, wrong):
    """The visitor gets an honest 503, the log says why, and no command arrives."""
    pairs = {
        "another CA": lambda: Authority(tmp_path, "other").issue("127.0.0.1"),
        "another name": lambda: authority.issue("127.0.0.2", "localhost"),
        "no name": lambda: authority.issue(title="127.0.0.1"),
        "ended": lambda: authority.issue("127.0.0.1", begins=-2, days=-1),
        "not begun": lambda: authority.issue("127.0.0.1", begins=1),
        "plain text": lambda: None,
    }
    server = serve(pairs[wrong]())
    visitor = node(server, authority)
    assert_honest(log_in(visitor))
    said = [record.getMessage() for record in caplog.records if "session store: " in record.getMessage()]
    assert said and re.search(WRONG[wrong], said[0]), said
    assert "app" not in {each["user"] for each in server.admin.client_list()}
    assert server.admin.acl_log() == []


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_ca_that_can_not_be_read_stops_the_start(tmp_path, content):
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"APP_REDIS_CA_FILE is {path}, which holds no certificate .*: name the CA"):
        make_app(APP_REDIS_CA_FILE=str(path))


def test_any_client_of_redis_can_be_told(serve, authority, unhurried):
    """The options are redis-py's own, so that those who bring another client, or Sentinel's, have TLS, too."""
    server = serve(authority.issue("127.0.0.1"))
    account = {"username": "app", "password": REDIS_PASSWORD}
    with Redis(host="127.0.0.1", port=server.port, **account, **client_options(str(authority.file))) as client:
        assert client.exists("anynode:x") == 0
    finder = Sentinel([("127.0.0.1", 1)])
    client = finder.master_for("sessions", **account, **client_options(str(authority.file)))
    assert client.connection_pool.connection_class is SentinelManagedSSLConnection
