"""Concurrent requests to two nodes under gunicorn with the same Redis, in many rounds, without any loss."""

import json
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import cycle
from typing import Any, NamedTuple

import pytest
from flask_shared_session import Session
from flask_shared_session.redis_store import RedisStore
from lib.app_nodes import start_node, stop_nodes, wait_until_healthy
from lib.demo_app import environ, redis_store
from lib.redis_server import RedisServer, default_server

pytestmark = pytest.mark.every_server

ROUNDS, ROUNDS_ON_OTHER_SERVERS = 200, 25  # all servers run the same scripts
PROCESSES, THREADS = 2, 4  # of each node
CONCURRENT = 2 * THREADS  # requests: more might wait for a thread if a single process accepted them all


class Answer(NamedTuple):
    status: int
    new_id: str | None
    process: int | None
    returned: list[Any]


class Round(NamedTuple):
    old_id: str
    user: str
    answers: list[Answer]

    @property
    def new_ids(self) -> list[str]:
        return [each.new_id for each in self.answers if each.new_id]

    @property
    def statuses(self) -> list[int]:
        return [each.status for each in self.answers]


class Gate:
    """Blocks a request."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.port = self._listener.getsockname()[1]

    def wait_for_the_request(self) -> None:
        self._held, _ = self._listener.accept()

    def open(self) -> None:
        self._held.close()


Race = Callable[..., list[Round]]
Sent = tuple[Gate, Future[Answer]]


@pytest.fixture(scope="module")
def nodes(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """The ports of two nodes."""
    log = tmp_path_factory.mktemp("nodes") / "log"
    with log.open("w") as file:
        size: dict[str, Any] = {"workers": PROCESSES, "threads": THREADS, "app": "lib.race_app:app"}
        started = [start_node(environ(shared_redis.port, APP_NODE=name), file, **size) for name in ("a", "b")]
    try:
        for _, port in started:
            wait_until_healthy(port, log)
        yield [port for _, port in started]
    finally:
        stop_nodes([process for process, _ in started])


def send(port: int, cookie: str, gate: Gate, steps: list[str]) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Cookie": f"session={cookie}", "Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", "/race", json.dumps({"gate": gate.port, "steps": steps}), headers)
    response = connection.getresponse()
    body = json.loads(response.read()) if response.status == 200 else {}
    cookies = [each for each in response.headers.get_all("Set-Cookie", []) if each.startswith("session=")]
    new_id = cookies[0].removeprefix("session=").partition(";")[0] if cookies else None
    return Answer(response.status, new_id or None, body.get("process"), body.get("returned", []))


@pytest.fixture
def store(redis: RedisServer) -> RedisStore:
    return redis_store(redis)


@pytest.fixture
def race(store: RedisStore, nodes: list[int], server_name: str) -> Iterator[Race]:
    """Sends requests, given as lists of steps, with the cookie of the same session, in many rounds. Returns the rounds.

    The requests go to the nodes in turn. All read the session before any request continues; `in_turn` means that each
    request was answered before the next request continues.
    """
    gates = [Gate() for _ in range(CONCURRENT)]

    def begin(number: int, requests: Sequence[list[str]]) -> tuple[str, str, list[Sent]]:
        session = Session(store, None)
        user = f"user{number}"
        session.update(a=0, b=0, n=0, basket={"list": []})
        session.log_in(user)
        session.save()
        assert session.new_id
        sent = []
        for port, steps in zip(cycle(nodes), requests, strict=False):
            gate = gates.pop()
            steps = [step.format(user=user) for step in steps]
            sent.append((gate, pool.submit(send, port, session.new_id, gate, steps)))
        return session.new_id, user, sent

    def finish(old_id: str, user: str, sent: list[Sent], in_turn: bool) -> Round:
        for gate, _ in sent:
            gate.wait_for_the_request()
        for gate, answer in sent if in_turn else random.sample(sent, len(sent)):
            gate.open()
            if in_turn:
                answer.result()
            gates.append(gate)
        return Round(old_id, user, [answer.result() for _, answer in sent])

    def run(*requests: list[str], in_turn: bool = False) -> list[Round]:
        rounds: list[Round] = []
        processes: set[int | None] = set()
        count = ROUNDS if server_name == default_server() else ROUNDS_ON_OTHER_SERVERS
        # The kernel decides which process of a node accepts a request: in few rounds, one may not have its turn.
        while len(rounds) < count or len(processes) < 2 * PROCESSES:
            assert len(rounds) < 20 * count, f"only {len(processes)} processes accept requests"
            begun = [begin(len(rounds) + i, requests) for i in range(CONCURRENT // len(requests))]
            rounds += [finish(*each, in_turn) for each in begun]
            processes |= {answer.process for each in rounds for answer in each.answers} - {None}
        assert {status for each in rounds for status in each.statuses} <= {200, 401, 409}
        return rounds

    with ThreadPoolExecutor(CONCURRENT) as pool:
        yield run


def version(redis: RedisServer, store: RedisStore, session_id: str) -> int:
    return int(redis.admin.hget(store._key(session_id), "m:version"))


def test_writes_to_different_and_nested_keys_are_all_kept(race: Race, redis: RedisServer, store: RedisStore) -> None:
    for each in race(["set a 1"], ["set b 2"], ["append basket"], ["set c 3"]):
        assert each.statuses == [200] * 4
        session = Session(store, each.old_id)
        assert dict(session) == {"a": "1", "b": "2", "c": "3", "n": 0, "basket": {"list": [1]}}
        assert version(redis, store, each.old_id) == 5


def test_the_later_write_to_a_key_is_kept(race: Race, redis: RedisServer, store: RedisStore) -> None:
    for each in race(["set a early"], ["set a late"], in_turn=True):
        assert Session(store, each.old_id)["a"] == "late"
        assert version(redis, store, each.old_id) == 3


@pytest.mark.parametrize("change", ["set a 1", "append basket"])
def test_a_slow_read_never_erases_a_write(race: Race, redis: RedisServer, store: RedisStore, change: str) -> None:
    for each in race([change], [], in_turn=True):
        session = Session(store, each.old_id)
        assert (session["a"], session["basket"]["list"]) in (("1", []), (0, [1]))
        assert version(redis, store, each.old_id) == 2


WHILE_IT_ENDS = [[], ["set a 1"], ["append basket"], ["increment n"], ["rotate"], ["set b 1", "rotate"]]


@pytest.mark.parametrize("end", ["end", "end_all"])
def test_an_ended_session_never_comes_back(race: Race, redis: RedisServer, store: RedisStore, end: str) -> None:
    for each in race([end], [end], *WHILE_IT_ENDS):
        assert not any(store.read(session_id) for session_id in (each.old_id, *each.new_ids))
        assert store.sessions_of(each.user) == []
    assert redis.session_keys() == []


def test_requests_that_read_before_the_end_of_a_session_can_write_nothing(race: Race, redis: RedisServer) -> None:
    for each in race(["end"], ["end"], *WHILE_IT_ENDS, in_turn=True):
        assert each.statuses == [200, 200, 200, 401, 401, 401, 401, 401]
        assert each.new_ids == []
    assert redis.session_keys() == []


def test_a_rotated_id_never_comes_back_and_no_write_is_lost(race: Race, store: RedisStore) -> None:
    for each in race(["rotate"], ["set a 1"], ["append basket"], ["increment n"]):
        assert store.read(each.old_id) is None
        (new_id,) = each.new_ids
        session = Session(store, new_id)
        kept = [True, session["a"] == "1", session["basket"]["list"] == [1], session["n"] == 1]
        assert kept == [status == 200 for status in each.statuses]
        assert len(store.sessions_of(each.user)) == 1


def test_a_single_of_two_rotations_succeeds(race: Race, store: RedisStore) -> None:
    for each in race(["rotate"], ["rotate"]):
        assert sorted(each.statuses) == [200, 409]
        assert store.read(each.old_id) is None
        assert len(store.sessions_of(each.user)) == len(each.new_ids) == 1


def test_two_logins_with_the_same_old_cookie_do_not_share_a_session(race: Race, store: RedisStore) -> None:
    for each in race(["log_in {user}"], ["log_in {user}"]):
        assert len({each.old_id, *each.new_ids}) == 3
        assert store.read(each.old_id) is None
        assert len(store.sessions_of(each.user)) == 2


def test_increments_add_up_and_each_sum_is_returned_once(race: Race, store: RedisStore) -> None:
    three = ["increment n"] * 3
    for each in race(*[three] * 6, ["set b 1", *three], three):
        sums = [value for answer in each.answers for value in answer.returned if value]
        assert sorted(sums) == list(range(1, 25))
        assert Session(store, each.old_id)["n"] == 24
