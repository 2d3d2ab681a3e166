"""A Redis Cluster of three primaries: every script uses keys of a single hash slot."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from flask_shared_session import RedisStore, Session, SessionStoreError
from flask_shared_session.redis_client import client_options
from lib.redis_server import ACL_COMMANDS, PREFIX, REDIS_PASSWORD, RedisServer, free_port
from redis import Redis
from redis.cluster import RedisCluster


@pytest.fixture(scope="module")
def nodes(server_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    servers = []
    for first, last in ((0, 5460), (5461, 10922), (10923, 16383)):
        bus_port = free_port()
        server = RedisServer(
            tmp_path_factory.mktemp("node"),
            server_name,
            f"--cluster-enabled yes --cluster-port {bus_port}",
            f"{ACL_COMMANDS} +command +cluster|slots",  # the client sends these at its start
        ).start()
        servers.append(server)
        server.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        servers[0].admin.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus_port)
    deadline = time.monotonic() + 20
    while any("cluster_state:ok" not in str(each.admin.execute_command("CLUSTER", "INFO")) for each in servers):
        assert time.monotonic() < deadline, "the cluster did not form"
        time.sleep(0.05)
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def store(nodes: list[RedisServer]) -> Iterator[RedisStore]:
    for server in nodes:
        server.admin.flushall()
        server.admin.script_flush()
    client = RedisCluster(
        host="127.0.0.1",
        port=nodes[0].port,
        username="app",
        password=REDIS_PASSWORD,
        **client_options(),
    )
    yield RedisStore(client, prefix=PREFIX, idle=100, lifetime=1000)
    client.close()


def begin(store: RedisStore, user: str | None = None, old: str | None = None) -> str:
    session = Session(store, old)
    session["a"] = 1
    if user:
        session.log_in(user)
    session.save()
    assert session.new_id
    return session.new_id


@pytest.mark.every_server
def test_all_steps_of_a_session(store: RedisStore) -> None:
    for _ in range(20):  # ids and users that lead to different slots
        old = begin(store)
        session = Session(store, begin(store, "ada", old))
        assert store.read(old) is None
        session.rotate()
        session.increment("n")
        session["b"] = 2
        session.save()
        assert dict(Session(store, session.new_id)) == {"a": 1, "b": 2, "n": 1}
        session.end()
    assert store.sessions_of("ada") == []
    for _ in range(20):  # for each call, the client selects a random node
        store.ping()


@pytest.mark.every_server
def test_users_can_end_their_sessions_and_operators_all_sessions(store: RedisStore) -> None:
    users = [f"user{number}" for number in range(12)]
    ids = [begin(store, user) for user in users for _ in range(3)]
    assert store.count() == (36, 36, 12)
    session = Session(store, ids[0])
    assert session.end_others() == 2
    assert session.end_session(session.sessions()[0].handle)
    assert store.end_session(store.sessions_of(users[1])[0].handle)
    assert store.end_sessions(users[2]) == 3
    assert store.count() == (29, 29, 10)
    assert store.end_everything() == 29


@pytest.mark.every_server
def test_a_login_takes_an_additional_call_if_the_old_session_has_another_slot(
    store: RedisStore, nodes: list[RedisServer]
) -> None:
    begin(store, "ada", begin(store, "bob"))
    again = begin(store, "ada")
    old = begin(store, "bob")
    for session_id, calls in ((again, 2), (old, 3)):
        before = _scripts_run(nodes)
        session_id = begin(store, "ada", session_id)
        assert _scripts_run(nodes) - before == calls, "including the read"
        assert store.read(session_id)
    assert store.sessions_of("bob") == []


@pytest.mark.every_server
def test_a_session_that_a_login_replaced_in_another_slot_is_reported(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: Counter[str] = Counter()
    monkeypatch.setattr(store.observer, "ended", lambda cause, number: ended.update({cause: number}))
    begin(store, "ada", begin(store, "bob"))
    assert ended == Counter(replaced=1)


def test_an_unavailable_cluster_is_a_store_error(store: RedisStore, nodes: list[RedisServer]) -> None:
    session_id = begin(store, "ada")
    for server in nodes:
        server.pause()
    try:
        for _ in range(4):
            began = time.monotonic()
            with pytest.raises(SessionStoreError):
                store.read(session_id)
            assert time.monotonic() - began < 2
    finally:
        for server in nodes:
            server.resume()
    began = time.monotonic()
    while True:
        try:
            assert store.read(session_id)
            break
        except SessionStoreError:
            assert time.monotonic() - began < 2
            time.sleep(0.02)


def _scripts_run(nodes: list[RedisServer]) -> int:
    return sum(_calls(server.admin) for server in nodes)


def _calls(admin: Redis) -> int:
    return int(admin.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])
