"""The cost of each request in Redis: measured by a proxy, by MONITOR, and in the append-only file."""

import socket
import threading
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_shared_session import current_session as session
from lib.demo_app import PASSWORD, log_in, make_app
from lib.redis_server import RedisServer
from werkzeug.test import TestResponse

# A client and its request -> round trips, whether Redis wrote to its file, whether a cookie was set
Send = Callable[[FlaskClient], TestResponse]
Cost = Callable[[FlaskClient, Send], tuple[int, bool, bool]]


class CountingProxy:
    """A proxy before Redis that counts connections and round trips."""

    def __init__(self, port: int) -> None:
        self._redis = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = self.round_trips = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self.connections += 1
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._redis) as server:
            threading.Thread(target=self._pass_back, args=(server, client), daemon=True).start()
            self._is_waiting = False
            while data := client.recv(65536):
                self.round_trips += not self._is_waiting
                self._is_waiting = True
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        while data := server.recv(65536):
            self._is_waiting = False
            client.sendall(data)


WITHOUT_SESSION: dict[str, Send] = {
    "the login page": lambda client: client.get("/"),
    "a call": lambda client: client.get("/api/session"),
    "a logout": lambda client: client.post("/api/logout", json={}),
}
FREE: dict[str, Send] = {
    "health": lambda client: client.get("/healthz"),
    "a file": lambda client: client.get("/static/style.css"),
    "nothing": lambda client: client.get("/nothing"),
}
# round trips, and the request
READS: dict[str, tuple[int, Send]] = {
    "a page": (1, lambda client: client.get("/")),
    "a call": (1, lambda client: client.get("/api/session")),
    "the same note again": (1, lambda client: client.put("/api/note", json={"note": ""})),
    "a list of sessions": (2, lambda client: client.get("/api/sessions")),
}
WRITES: dict[str, tuple[int, Send]] = {
    "a note": (2, lambda client: client.put("/api/note", json={"note": "x"})),
    "a counter": (2, lambda client: client.post("/api/counter", json={})),
}
LOGIN = 2  # round trips of the login limiter: before the password hash is computed, and after it
CHANGES: dict[str, tuple[int, Send]] = {
    "ending others, with the password, which gives a new id": (
        LOGIN + 3,
        lambda client: client.delete("/api/sessions", json={"password": PASSWORD}),
    ),
    "another login": (LOGIN + 2, lambda client: log_in(client)),
    "a rotation": (2, lambda client: client.get("/rotate")),
    "a logout": (1, lambda client: client.post("/api/logout", json={})),
    "a logout everywhere": (2, lambda client: client.get("/end-all")),
}
END_OTHERS: tuple[int, Send] = 2, lambda client: client.get("/end-others")


@pytest.fixture(scope="module")
def proxy(shared_redis: RedisServer) -> CountingProxy:
    return CountingProxy(shared_redis.port)


@pytest.fixture
def app(redis: RedisServer, proxy: CountingProxy) -> Flask:
    def rotate() -> str:
        session.rotate()
        return ""

    app = make_app(proxy.port)
    app.add_url_rule("/rotate", "rotate", rotate)
    app.add_url_rule("/end-others", "end others", lambda: str(session.end_others()))
    app.add_url_rule("/end-all", "end all", lambda: str(session.end_all()))
    client = app.test_client()  # loads all scripts
    for _, request in [*READS.values(), *WRITES.values(), END_OTHERS, *CHANGES.values()]:
        log_in(client)
        request(client)
    return app


@pytest.fixture(params=[1, 10])
def ada(app: Flask, request: pytest.FixtureRequest) -> FlaskClient:
    """A logged-in client; its user has so many sessions."""
    clients = [app.test_client() for _ in range(request.param)]
    for client in clients:
        assert log_in(client).status_code == 200
    return clients[0]


@pytest.fixture
def cost(redis: RedisServer, proxy: CountingProxy) -> Cost:
    """Sends a request. Returns its round trips, whether Redis wrote to its file, and whether a cookie was set."""

    def cost(client: FlaskClient, request: Send) -> tuple[int, bool, bool]:
        aof, connections, round_trips = redis.aof_bytes(), proxy.connections, proxy.round_trips
        with redis.monitor() as seen:
            response = request(client)
        assert response.status_code < 500
        assert proxy.connections == connections
        assert len(seen.sent) == proxy.round_trips - round_trips, "a single command each"
        return len(seen.sent), redis.aof_bytes() > aof, "Set-Cookie" in response.headers

    return cost


@pytest.mark.parametrize("name", WITHOUT_SESSION)
def test_requests_without_a_session_need_no_round_trip_and_set_no_cookie(app: Flask, cost: Cost, name: str) -> None:
    client = app.test_client()
    client.set_cookie("login-form", "x")  # which the first form sets
    assert cost(client, WITHOUT_SESSION[name]) == (0, False, False)


@pytest.mark.parametrize("name", FREE)
def test_routes_without_a_session_need_no_round_trip_even_with_a_cookie(
    ada: FlaskClient, cost: Cost, name: str
) -> None:
    assert cost(ada, FREE[name]) == (0, False, False)


@pytest.mark.parametrize("name", READS)
def test_a_read_writes_nothing_and_sets_no_cookie(ada: FlaskClient, cost: Cost, name: str) -> None:
    round_trips, request = READS[name]
    assert cost(ada, request) == (round_trips, False, False)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_takes_an_additional_round_trip_and_sets_no_cookie(ada: FlaskClient, cost: Cost, name: str) -> None:
    round_trips, request = WRITES[name]
    assert cost(ada, request) == (round_trips, True, False)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_the_id_costs_the_same_with_many_sessions(ada: FlaskClient, cost: Cost, name: str) -> None:
    round_trips, request = CHANGES[name]
    assert cost(ada, request) == (round_trips, True, True)


def test_ending_all_other_sessions_costs_the_same_with_many_sessions(ada: FlaskClient, cost: Cost) -> None:
    assert cost(ada, END_OTHERS[1])[0] == END_OTHERS[0]
    assert cost(ada, READS["a call"][1])[0] == 1


def test_a_login_without_a_cookie_takes_an_additional_round_trip(app: Flask, cost: Cost) -> None:
    assert cost(app.test_client(), log_in) == (LOGIN + 1, True, True)
