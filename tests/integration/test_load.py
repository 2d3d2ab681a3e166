"""The load generator with a faulty server: each fault is counted under its name."""

import asyncio
import json
import random
import socket
import ssl
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest
from lib.load.__main__ import main
from lib.load_process import assert_no_errors, load
from lib.redis_server import free_port

Bench = Callable[..., tuple[int, Any]]

ACCOUNT = {"username": "demo", "password": "correct horse"}


class FaultyServer:
    """A minimal HTTP server for logins and counters.

    fault: called with each request; returns true if it handled the request. login: handles logins.
    """

    def __init__(
        self,
        fault: Callable[["Request"], object] | None = None,
        login: Callable[["Request"], object] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._fault, self._login, self._tls = fault, login or Request.answer, tls
        self._ids = count()
        self.counters: dict[str, int] = {}
        self.seen: Counter[str] = Counter()  # requests, by method
        self.enough = threading.Event()  # a hundred requests
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop_listening(self) -> None:
        # asyncio would never answer connections that it accepts just before the close, so stop accepting earlier
        for each in self._server.sockets:
            self._loop.remove_reader(each.fileno())
        self._loop.call_later(0.05, self._server.close)

    async def _serve(self, reader: asyncio.StreamReader, writer: Any) -> None:
        for number in count(1):  # of the request on this connection
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            writer.number = number
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            body = json.loads(await reader.readexactly(int(headers.get("Content-Length", 0))) or b"{}")
            if writer.is_closing():  # ignore requests that arrived before the close
                break
            method, path, _ = head.split(" ", 2)
            request = Request(self, writer, method, path, headers, body, number)
            if path != "/api/login":
                self.seen[method] += 1
                if self.seen.total() == 100:
                    self.enough.set()
            if path == "/api/login":
                self._login(request)
            elif not self._fault or not self._fault(request):
                request.answer()
            if writer.is_closing() or "close" in headers.get("Connection", ""):
                break
        writer.close()


class Request:
    """number: of the request on its connection, from 1."""

    def __init__(
        self,
        server: FaultyServer,
        writer: Any,
        method: str,
        path: str,
        headers: dict[str, str],
        body: dict[str, Any],
        number: int,
    ) -> None:
        self.server, self.writer, self.number = server, writer, number
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.session = headers.get("Cookie", "").removeprefix("session=")
        self.seen = server.seen[method] + 1  # number of requests with this method, including this request

    def answer(self) -> None:
        """Respond correctly."""
        counters = self.server.counters
        if self.path == "/api/login":
            if self.body != ACCOUNT:
                self.send(401)
                return
            session = str(next(self.server._ids))
            counters[session] = 0
            self.send(200, {"counter": 0}, f"Set-Cookie: session={session}; Path=/\r\nSet-Cookie: device=b\r\n")
        elif self.session not in counters:
            self.send(401)
        else:
            counters[self.session] += self.method == "POST"
            self.send(200, {"counter": counters[self.session]})

    def send(self, status: int, body: dict[str, int] | None = None, headers: str = "") -> None:
        raw = json.dumps(body or {})
        head = f"HTTP/1.1 {status} .\r\nContent-Length: {len(raw)}\r\nX-Node: app1\r\nX-Request-ID: id{self.seen}\r\n"
        self.writer.write(f"{head}{headers}\r\n{raw}".encode())

    def leaves_idle(self) -> bool:
        """Whether its connection is still open, without another request."""
        return not self.writer.is_closing() and self.writer.number == self.number

    def drop(self) -> None:
        """Close the connection without a response."""
        self.writer.close()

    def reset(self) -> None:
        lingering = struct.pack("ii", 1, 0)  # close() then sends a reset
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        self.writer.transport.abort()


def once(
    method: str, action: Callable[[Request], object], applies: Callable[[Request], bool] = lambda request: True
) -> Callable[[Request], bool]:
    """A fault: instead of a response, `action` handles the first request that applies, from the fifth request on."""
    done: list[Request] = []

    def fault(request: Request) -> bool:
        if done or request.method != method or request.server.seen[method] < 5 or not applies(request):
            return False
        done.append(request)
        action(request)
        return True

    return fault


def on_new_connection(request: Request) -> bool:
    return request.headers.get("Connection") == "close"


def on_reused_connection(request: Request) -> bool:
    return request.number > 1


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs the load generator; returns its exit status and the result, or its error output."""
    password = tmp_path / "password"
    password.write_text(ACCOUNT["password"])

    def run(url: str, *arguments: str) -> tuple[int, Any]:
        defaults = ["--users=4", "--rate=2000", "--requests=100", "--seconds=20", "--json"]
        status = main([url, f"--password-file={password}", *defaults, *arguments])
        printed, errors = capsys.readouterr()
        return status, json.loads(printed) if printed else errors

    return run


def test_load_without_errors(bench: Bench, tmp_path: Path) -> None:
    with FaultyServer() as server:
        status, result = bench(server.url, f"--timeline={tmp_path}/timeline")
    assert status == 0
    assert result["failures"] == {}
    assert result["complete"]
    methods = {name: each["requests"] for name, each in result["by_method"].items()}
    # without the GET that checks the first login
    assert methods == {"GET": server.seen["GET"] - 1, "POST": server.seen["POST"], "login": 0}
    assert result["requests"] == sum(methods.values()) >= 100
    assert sum(server.counters.values()) == methods["POST"] > 0
    assert result["by_node"] == {"app1": result["requests"]}
    assert result["retried"] == {}
    rows = json.loads((tmp_path / "timeline").read_text())
    assert sum(row["requests"] for row in rows) == result["requests"]
    assert max(row["worst_wait"] for row in rows) == pytest.approx(result["wait"]["worst"]["seconds"], abs=1e-4)
    assert_no_errors(result, worst_wait=20)


def lose(request: Request) -> None:
    request.send(200, {"counter": request.server.counters[request.session] + 1})


def write_twice(request: Request) -> None:
    request.server.counters[request.session] += 1
    request.answer()


def truncate(request: Request) -> None:
    request.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    request.drop()


def truncate_head(request: Request) -> None:
    request.writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    request.drop()


FAULTS = {
    "lost write": once("POST", lose),
    "doubled write": once("POST", write_twice),
    "502": once("GET", lambda request: request.send(502)),
    "302": once("GET", lambda request: request.send(302, headers="Location: /\r\n")),
    "503": once("POST", lambda request: request.send(503)),
    "503 announced": once("POST", lambda request: request.send(503, headers="Retry-After: 1\r\n")),
    "reset": once("POST", Request.reset, on_new_connection),
    # aiohttp by itself would retry a GET silently
    "reset ": once("GET", Request.reset, on_new_connection),
    "closed": once("GET", Request.drop, on_new_connection),
    "closed ": once("POST", Request.drop, on_new_connection),
    "truncated": once("GET", truncate),
    # not retried, although the connection was reused
    "truncated ": once("GET", truncate_head, on_reused_connection),
    "truncated  ": once("GET", truncate, on_reused_connection),
    "not HTTP": once("GET", lambda request: request.writer.write(b"SSH-2.0\r\n\r\n")),
    "not understood": once("POST", lambda request: request.send(200)),
    "timeout": once("GET", lambda request: None, lambda request: not on_new_connection(request)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_counted_under_its_name(bench: Bench, name: str) -> None:
    with FaultyServer(FAULTS[name]) as server:
        status, result = bench(server.url, "--timeout=0.5")
    assert status == 1
    assert result["failures"] == {name.strip(): 1}
    assert result["failed"] == 1
    assert result["wait"]["worst_of_all"]["seconds"] < 20
    assert (result["lost_writes"], result["doubled_writes"]) == (name == "lost write", name == "doubled write")
    assert result["unacknowledged_but_kept"] == result["sessions_lost"] == 0
    assert result["retried"] == {}
    assert result["first_failures"][0]["failure"] == name.strip()
    with pytest.raises(AssertionError, match=rf"(?s)failed requests.*{name.strip()}: 1"):
        assert_no_errors(result, worst_wait=20)


def test_the_acknowledgement_time_of_a_lost_write_is_reported(bench: Bench) -> None:
    with FaultyServer(once("POST", lose)) as server:
        _, result = bench(server.url)
    (found,) = result["lost_writes_found"]
    assert found["writes"] == 1
    assert found["seen"] - result["seconds"] < found["acknowledged"] <= found["seen"]


def test_refused_connections_are_counted(bench: Bench) -> None:
    def stop_and_answer(request: Request) -> None:
        request.server.stop_listening()
        request.answer()

    with FaultyServer(once("GET", stop_and_answer)) as server:
        status, result = bench(server.url, "--requests=400")
    assert status == 1
    assert "refused" in result["failures"].keys() <= {"refused", "reset"}  # connections in the queue are reset


def test_an_unacknowledged_write_that_was_kept_is_counted(bench: Bench) -> None:
    def keep_and_fail(request: Request) -> None:
        request.server.counters[request.session] += 1
        request.send(502)

    with FaultyServer(once("POST", keep_and_fail)) as server:
        status, result = bench(server.url)
    assert status == 1
    assert result["failures"] == {"502": 1}
    assert result["unacknowledged_but_kept"] == 1
    assert result["lost_writes"] == result["doubled_writes"] == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("end", [Request.drop, Request.reset])
def test_a_closed_reused_connection_is_retried_and_counted(
    bench: Bench, method: str, end: Callable[[Request], object]
) -> None:
    with FaultyServer(once(method, end, on_reused_connection)) as server:
        status, result = bench(server.url)
    assert status == 0
    assert result["failures"] == {}
    assert result["retried"] == {method: 1}


@pytest.mark.parametrize("end", [Request.drop, Request.reset])
def test_kept_connections_that_close_at_any_moment_are_no_failure(
    bench: Bench, end: Callable[[Request], object]
) -> None:
    # like a reload of nginx, which closes idle connections while requests may already be on their way
    def answer_and_end_soon(request: Request) -> bool:
        request.answer()
        if not on_new_connection(request):
            asyncio.get_running_loop().call_later(
                random.random() * 0.003, lambda: request.leaves_idle() and end(request)
            )
        return True

    with FaultyServer(answer_and_end_soon) as server:
        status, result = bench(server.url, "--requests=1000", "--users=16")
    assert status == 0, result["first_failures"]
    assert result["retried"]


def test_a_retried_post_that_the_server_had_processed_is_a_doubled_write(bench: Bench) -> None:
    def write_and_drop(request: Request) -> None:
        request.server.counters[request.session] += 1
        request.drop()

    with FaultyServer(once("POST", write_and_drop, on_reused_connection)) as server:
        status, result = bench(server.url)
    assert status == 1
    assert result["failures"] == {"doubled write": 1}
    assert result["doubled_writes"] == 1


def test_lost_sessions_are_counted_and_their_users_log_in_again(bench: Bench) -> None:
    def forget(request: Request) -> None:
        request.server.counters.clear()
        request.answer()

    with FaultyServer(once("GET", forget)) as server:
        status, result = bench(server.url)
        assert len(server.counters) == 4
    assert status == 1
    assert result["failures"] == {"logged out": 4}
    assert result["sessions_lost"] == len(result["sessions_lost_found"]) == 4
    assert result["by_method"]["login"] == {"requests": 4, "failures": {}}
    assert result["lost_writes"] == 0


def test_too_few_requests_are_a_failure(bench: Bench) -> None:
    with FaultyServer() as server:
        status, result = bench(server.url, "--rate=50", "--seconds=1", "--requests=10000")
    assert status == 1
    assert result["failed"] == 0
    assert not result["complete"]
    with pytest.raises(AssertionError, match="too few requests"):
        assert_no_errors(result, worst_wait=20)


def test_a_server_that_does_not_answer_is_an_error(bench: Bench) -> None:
    assert_start_error(bench(f"http://127.0.0.1:{free_port()}"), "doesn't answer")


def test_a_wrong_password_is_an_error(bench: Bench) -> None:
    with FaultyServer() as server:
        assert_start_error(bench(server.url, "--username=ada"), "refused the password of 'ada'")


def test_another_kind_of_server_is_an_error(bench: Bench) -> None:
    with FaultyServer(login=lambda request: request.send(404)) as server:
        assert_start_error(bench(server.url), "answered with status 404")


def test_too_low_a_limit_of_sessions_per_user_is_an_error(bench: Bench) -> None:
    def end_the_oldest(request: Request) -> None:
        request.answer()
        if len(request.server.counters) > 3:
            del request.server.counters[min(request.server.counters)]

    with FaultyServer(login=end_the_oldest) as server:
        assert_start_error(bench(server.url), "app_sessions_per_user")


def assert_start_error(ended: tuple[int, str], words: str) -> None:
    status, errors = ended
    assert status == 2
    assert words in errors


def test_tls(bench: Bench, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test"
    make += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(make.split(), check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    with FaultyServer(tls=tls) as server:
        assert_start_error(bench(server.url), "for TLS see --ca")
        status, result = bench(server.url, f"--ca={certificate}")
    assert status == 0
    assert result["requests"] >= 100


def test_load_lasts_as_long_as_the_block(tmp_path: Path) -> None:
    with FaultyServer() as server:
        with load(server.url, ACCOUNT, requests=20, rate=500, users=4, timeline=tmp_path / "timeline") as run:
            assert run.result == {}
            assert server.enough.wait(20)
        assert_no_errors(run.result, worst_wait=20)
        assert run.result["requests"] == server.seen.total() - 1 >= 99
    assert json.loads((tmp_path / "timeline").read_text())


def test_load_continues_until_the_requests_were_made() -> None:
    with FaultyServer() as server:
        with load(server.url, ACCOUNT, requests=50, rate=500, users=4) as run:
            pass
        assert run.result["requests"] >= 50


def test_load_that_can_not_start_is_an_error() -> None:
    with pytest.raises(AssertionError, match="doesn't answer"), load(f"http://127.0.0.1:{free_port()}", ACCOUNT):
        pass
