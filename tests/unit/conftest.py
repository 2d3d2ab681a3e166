"""Servers, stores, apps and clients for the tests."""

import pytest
from anynode.sessions import MemoryStore
from unit.helpers import RedisServer, log_in, make_app, redis_store


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def redis(shared_redis):
    """A server without keys, whose scripts are known and whose statistics are anyone's."""
    shared_redis.admin.flushall()
    yield shared_redis
    assert shared_redis.keys_without_expiry() == []


@pytest.fixture
def own_redis(tmp_path):
    """A server that the test may kill and start again."""
    server = RedisServer(tmp_path).start()
    yield server
    left = server.keys_without_expiry() if server.is_up() else []
    server.kill()
    assert left == []


@pytest.fixture(params=["redis", "memory"])
def make_store(request):
    """Makes a store of either kind; the contract is the same for both."""
    if request.param == "memory":
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
