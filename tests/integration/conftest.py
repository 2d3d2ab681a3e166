"""Fixtures: servers, stores, apps and clients."""

import functools
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_shared_session import MemoryStore, Store, redis_client
from lib.demo_app import log_in, make_app, redis_store
from lib.fault_proxy import FaultProxy
from lib.redis_server import PROGRAMS, RedisServer, default_server

# The files that take longest, first: xdist assigns whole files to its workers (--dist loadfile), so a slow file that
# starts last would keep a single worker busy at the end.
SLOWEST_FILES = (
    *("certificates", "inventories", "rotation", "firewall", "races", "reads", "scrape", "outage", "redis_reconfigure"),
    *("templates", "edge", "edge_limits", "interleavings", "cut_connections", "connectivity", "cluster_client", "load"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files by duration; pyproject.toml disables xdist's own order, by number of tests."""
    ranks = {f"test_{name}": rank for rank, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that needs a server runs on the default server; with the mark `every_server`, on each server."""
    if "server_name" not in metafunc.fixturenames:
        return
    names = list(PROGRAMS)
    if not metafunc.definition.get_closest_marker("every_server"):
        names = names[:1]
    if "make_store" in metafunc.fixturenames:
        names.append("memory")
    metafunc.parametrize("server_name", names, scope="module")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """After each test, assert that no key lacks an expiry, on any running server."""
    result = yield
    found = {server.port: keys for server in RedisServer.running if (keys := server.keys_without_expiry())}
    assert found == {}, "keys without an expiry"
    return result


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RedisServer]]:
    """Returns the server with this name, which all tests share."""
    get = functools.cache(lambda name: RedisServer(tmp_path_factory.mktemp(name), name).start())
    yield get
    for server in list(RedisServer.running):
        server.kill()


@pytest.fixture(scope="module")
def server_name() -> str:
    """The default, for fixtures that are requested at run time; see pytest_generate_tests for all others."""
    return default_server()


@pytest.fixture(scope="module")
def shared_redis(servers: Callable[[str], RedisServer], server_name: str) -> RedisServer:
    return servers(server_name)


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A server without keys; other tests have loaded scripts and changed its statistics."""
    shared_redis.admin.flushall()
    return shared_redis


@pytest.fixture
def own_redis(server_name: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill and start again."""
    server = RedisServer(tmp_path, server_name).start()
    yield server
    server.kill()


@pytest.fixture
def fault_proxy(redis: RedisServer) -> Iterator[FaultProxy]:
    """A proxy between the clients and the server `redis`."""
    proxy = FaultProxy(redis.port)
    yield proxy
    proxy.close()


@pytest.fixture
def long_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that don't test timeouts: a slow host must not look like a Redis that doesn't answer."""
    monkeypatch.setattr(redis_client, "TIMEOUT_SECONDS", 10)


@pytest.fixture
def make_store(server_name: str, request: pytest.FixtureRequest) -> Callable[..., Store]:
    """Creates a store of either kind; both have the same contract."""
    if server_name == "memory":
        return lambda idle=100, lifetime=1000: MemoryStore(idle=idle, lifetime=lifetime)
    server = request.getfixturevalue("redis")
    return lambda idle=100, lifetime=1000: redis_store(server, idle, lifetime)


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store()


@pytest.fixture
def app(redis: RedisServer) -> Flask:
    return make_app(redis.port)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def logged_in(client: FlaskClient) -> FlaskClient:
    """A logged-in client; its scripts are loaded in Redis."""
    assert log_in(client).status_code == 200
    assert client.get("/api/session").status_code == 200
    return client
