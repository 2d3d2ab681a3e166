"""Servers, stores, apps and clients for the tests."""

import functools

import pytest
from anynode import redis_client
from anynode.sessions import MemoryStore
from lib.demo_app import log_in, make_app, redis_store
from lib.fault_proxy import Wire
from lib.redis_server import DEFAULT, PROGRAMS, RedisServer


def pytest_generate_tests(metafunc):
    """A test that needs a server gets the first one; with the mark `every_server`, each of them in turn."""
    if "server_name" not in metafunc.fixturenames:
        return
    names = list(PROGRAMS)
    if not metafunc.definition.get_closest_marker("every_server"):
        names = names[:1]
    if "make_store" in metafunc.fixturenames:
        names.append("memory")
    metafunc.parametrize("server_name", names, scope="module")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """After each test: no key is without an expiry, on any server that runs, whoever started it."""
    result = yield
    left = {server.port: keys for server in RedisServer.running if (keys := server.keys_without_expiry())}
    assert left == {}, "keys without an expiry"
    return result


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Gives the server with this name, to all tests the same."""
    get = functools.cache(lambda name: RedisServer(tmp_path_factory.mktemp(name), name).start())
    yield get
    for server in list(RedisServer.running):
        server.kill()


@pytest.fixture(scope="module")
def server_name():
    """Of those that ask for a server while they run already; see pytest_generate_tests for the others."""
    return DEFAULT


@pytest.fixture(scope="module")
def shared_redis(servers, server_name):
    return servers(server_name)


@pytest.fixture
def redis(shared_redis):
    """A server without keys, whose scripts are known and whose statistics are anyone's."""
    shared_redis.admin.flushall()
    return shared_redis


@pytest.fixture
def own_redis(server_name, tmp_path):
    """A server that the test may kill and start again."""
    server = RedisServer(tmp_path, server_name).start()
    yield server
    server.kill()


@pytest.fixture
def wire(redis):
    """What lies between the clients and the server `redis`."""
    wire = Wire(redis.port)
    yield wire
    wire.close()


@pytest.fixture
def unhurried(monkeypatch):
    """Where no timeout is tested, a busy computer must not be taken for an ill Redis."""
    monkeypatch.setattr(redis_client, "TIMEOUT_SECONDS", 10)


@pytest.fixture
def make_store(server_name, request):
    """Makes a store of either kind; the contract is the same for both."""
    if server_name == "memory":
        return lambda idle=100, lifetime=1000: MemoryStore(idle=idle, lifetime=lifetime)
    server = request.getfixturevalue("redis")
    return lambda idle=100, lifetime=1000: redis_store(server, idle, lifetime)


@pytest.fixture
def store(make_store):
    return make_store()


@pytest.fixture
def app(redis):
    return make_app(redis.port)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def logged_in(client):
    """A client that is logged in; its scripts are loaded in Redis."""
    assert log_in(client).status_code == 200
    assert client.get("/api/session").status_code == 200
    return client
