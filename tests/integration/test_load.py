"""The load tool against a server that does wrong: each wrong is counted under its name."""

import asyncio
import json
import random
import re
import socket
import ssl
import struct
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import count

import pytest
from lib.load.__main__ import is_private, main
from lib.load.figure import Figure
from lib.load_process import assert_nobody_noticed, load
from lib.redis_server import free_port

ACCOUNT = {"username": "demo", "password": "correct horse"}


class BadServer:
    """Speaks enough HTTP to log in and to count. `wrong` is given each request, and returns true if it did it wrong."""

    def __init__(self, wrong=None, login=None, tls=None):
        self._wrong, self._login, self._tls = wrong, login or Request.answer, tls
        self._ids = count()
        self.counters = {}
        self.seen = Counter()  # requests, by method
        self.enough = threading.Event()  # a hundred of them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self):
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_):
        async def end():
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop_listening(self):
        self._server.close()

    async def _serve(self, reader, writer):
        for number in count(1):  # of the request on this connection
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            writer.number = number
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            body = json.loads(await reader.readexactly(int(headers.get("Content-Length", 0))) or b"{}")
            if writer.is_closing():  # what had come before it was closed is not done
                break
            method, path, _ = head.split(" ", 2)
            request = Request(self, writer, method, path, headers, body, number)
            if path != "/api/login":
                self.seen[method] += 1
                if self.seen.total() == 100:
                    self.enough.set()
            if path == "/api/login":
                self._login(request)
            elif not self._wrong or not self._wrong(request):
                request.answer()
            if writer.is_closing() or "close" in headers.get("Connection", ""):
                break
        writer.close()


class Request:
    """number: of the request on its connection, from 1."""

    def __init__(self, server, writer, method, path, headers, body, number):
        self.server, self.writer, self.number = server, writer, number
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.session = headers.get("Cookie", "").removeprefix("session=")
        self.seen = server.seen[method] + 1  # of this method, with this one

    def answer(self):
        """As it should be."""
        counters = self.server.counters
        if self.path == "/api/login":
            if self.body != ACCOUNT:
                self.send(401)
                return
            session = str(next(self.server._ids))
            counters[session] = 0
            self.send(200, {"counter": 0}, f"Set-Cookie: session={session}; Path=/\r\nSet-Cookie: browser=b\r\n")
        elif self.session not in counters:
            self.send(401)
        else:
            counters[self.session] += self.method == "POST"
            self.send(200, {"counter": counters[self.session]})

    def send(self, status, body=None, headers=""):
        raw = json.dumps(body or {})
        head = f"HTTP/1.1 {status} .\r\nContent-Length: {len(raw)}\r\nX-Node: app1\r\nX-Request-ID: id{self.seen}\r\n"
        self.writer.write(f"{head}{headers}\r\n{raw}".encode())

    def leaves_idle(self):
        """Its connection is still open, and nothing more has come on it."""
        return not self.writer.is_closing() and self.writer.number == self.number

    def drop(self):
        """Without an answer."""
        self.writer.close()

    def reset(self):
        lingering = struct.pack("ii", 1, 0)  # what close() sends then is a reset
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        self.writer.transport.abort()


def wrong_once(method, deed, which=lambda request: True):
    """Does `deed` instead of answering, to the first such request from the fifth one on."""
    done = []

    def wrong(request):
        if done or request.method != method or request.server.seen[method] < 5 or not which(request):
            return False
        done.append(request)
        deed(request)
        return True

    return wrong


def on_new_connection(request):
    return request.headers.get("Connection") == "close"


def on_reused_connection(request):
    return request.number > 1


@pytest.fixture
def bench(tmp_path, capsys):
    """Runs the tool on a server; returns its exit status and the result."""
    password = tmp_path / "password"
    password.write_text(ACCOUNT["password"])

    def run(url, *arguments):
        usual = ["--visitors=4", "--rate=2000", "--requests=100", "--seconds=20", "--json"]
        status = main([url, f"--password-file={password}", *usual, *arguments])
        printed, said = capsys.readouterr()
        return status, json.loads(printed) if printed else said

    return run


def test_nothing_wrong(bench, tmp_path):
    with BadServer() as server:
        status, result = bench(server.url, f"--timeline={tmp_path}/timeline")
    assert status == 0
    assert result["failures"] == {}
    assert result["complete"]
    methods = {name: each["requests"] for name, each in result["by_method"].items()}
    # one GET was to see whether all are logged in
    assert methods == {"GET": server.seen["GET"] - 1, "POST": server.seen["POST"], "login": 0}
    assert result["requests"] == sum(methods.values()) >= 100
    assert sum(server.counters.values()) == methods["POST"] > 0
    assert result["by_node"] == {"app1": result["requests"]}
    assert result["retried"] == {}
    rows = json.loads((tmp_path / "timeline").read_text())
    assert sum(row["requests"] for row in rows) == result["requests"]
    assert max(row["worst_wait"] for row in rows) == pytest.approx(result["wait"]["worst"]["seconds"], abs=1e-4)
    assert_nobody_noticed(result, worst_wait=20)


def lose(request):
    request.send(200, {"counter": request.server.counters[request.session] + 1})


def write_twice(request):
    request.server.counters[request.session] += 1
    request.answer()


def cut_short(request):
    request.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    request.drop()


def cut_in_the_head(request):
    request.writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    request.drop()


WRONGS = {
    "lost write": wrong_once("POST", lose),
    "doubled write": wrong_once("POST", write_twice),
    "502": wrong_once("GET", lambda request: request.send(502)),
    "302": wrong_once("GET", lambda request: request.send(302, headers="Location: /\r\n")),
    "503": wrong_once("POST", lambda request: request.send(503)),
    "503 announced": wrong_once("POST", lambda request: request.send(503, headers="Retry-After: 1\r\n")),
    "reset": wrong_once("POST", Request.reset, on_new_connection),
    # aiohttp would send a GET again, and nobody would know
    "reset ": wrong_once("GET", Request.reset, on_new_connection),
    "closed": wrong_once("GET", Request.drop, on_new_connection),
    "closed ": wrong_once("POST", Request.drop, on_new_connection),
    "cut short": wrong_once("GET", cut_short),
    # not sent again, though it was a reused connection
    "cut short ": wrong_once("GET", cut_in_the_head, on_reused_connection),
    "cut short  ": wrong_once("GET", cut_short, on_reused_connection),
    "not HTTP": wrong_once("GET", lambda request: request.writer.write(b"SSH-2.0\r\n\r\n")),
    "not understood": wrong_once("POST", lambda request: request.send(200)),
    "timeout": wrong_once("GET", lambda request: None, lambda request: not on_new_connection(request)),
}


@pytest.mark.parametrize("name", WRONGS)
def test_a_wrong_is_counted_under_its_name(bench, name):
    with BadServer(WRONGS[name]) as server:
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
        assert_nobody_noticed(result, worst_wait=20)


def test_when_a_lost_write_was_acknowledged(bench):
    with BadServer(wrong_once("POST", lose)) as server:
        _, result = bench(server.url)
    (found,) = result["lost_writes_found"]
    assert found["writes"] == 1
    assert found["seen"] - result["seconds"] < found["acknowledged"] <= found["seen"]


def test_refused(bench):
    with BadServer(wrong_once("GET", lambda request: (request.server.stop_listening(), request.answer()))) as server:
        status, result = bench(server.url)
    assert status == 1
    assert "refused" in result["failures"].keys() <= {"refused", "reset"}  # which is for those who were waiting


def test_a_write_that_was_kept_though_nobody_said_so(bench):
    def keep_and_fail(request):
        request.server.counters[request.session] += 1
        request.send(502)

    with BadServer(wrong_once("POST", keep_and_fail)) as server:
        status, result = bench(server.url)
    assert status == 1
    assert result["failures"] == {"502": 1}
    assert result["unacknowledged_but_kept"] == 1
    assert result["lost_writes"] == result["doubled_writes"] == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("end", [Request.drop, Request.reset])
def test_a_reused_connection_that_ends_is_no_failure_but_counted(bench, method, end):
    with BadServer(wrong_once(method, end, on_reused_connection)) as server:
        status, result = bench(server.url)
    assert status == 0
    assert result["failures"] == {}
    assert result["retried"] == {method: 1}


@pytest.mark.parametrize("end", [Request.drop, Request.reset])
def test_kept_connections_that_end_at_any_moment_are_no_failure(bench, end):
    # as nginx closes what is idle when it is reloaded, and requests may be on their way then
    def answer_and_end_soon(request):
        request.answer()
        if not on_new_connection(request):
            asyncio.get_running_loop().call_later(
                random.random() * 0.003, lambda: request.leaves_idle() and end(request)
            )
        return True

    with BadServer(answer_and_end_soon) as server:
        status, result = bench(server.url, "--requests=1000", "--visitors=16")
    assert status == 0, result["first_failures"]
    assert result["retried"]


def test_a_retried_post_that_the_server_had_begun_is_a_doubled_write(bench):
    def write_and_drop(request):
        request.server.counters[request.session] += 1
        request.drop()

    with BadServer(wrong_once("POST", write_and_drop, on_reused_connection)) as server:
        status, result = bench(server.url)
    assert status == 1
    assert result["failures"] == {"doubled write": 1}
    assert result["doubled_writes"] == 1


def test_lost_sessions_are_counted_and_their_visitors_log_in_again(bench):
    def forget(request):
        request.server.counters.clear()
        request.answer()

    with BadServer(wrong_once("GET", forget)) as server:
        status, result = bench(server.url)
        assert len(server.counters) == 4
    assert status == 1
    assert result["failures"] == {"logged out": 4}
    assert result["sessions_lost"] == len(result["sessions_lost_found"]) == 4
    assert result["by_method"]["login"] == {"requests": 4, "failures": {}}
    assert result["lost_writes"] == 0


def test_too_few_requests_are_not_a_success(bench):
    with BadServer() as server:
        status, result = bench(server.url, "--rate=50", "--seconds=1", "--requests=10000")
    assert status == 1
    assert result["failed"] == 0
    assert not result["complete"]
    with pytest.raises(AssertionError, match="too few requests"):
        assert_nobody_noticed(result, worst_wait=20)


def test_nobody_answers(bench):
    assert_cannot_start(bench(f"http://127.0.0.1:{free_port()}"), "doesn't answer")


def test_a_wrong_password(bench):
    with BadServer() as server:
        assert_cannot_start(bench(server.url, "--user=ada"), "password of 'ada' is wrong")


def test_a_server_that_is_something_else(bench):
    with BadServer(login=lambda request: request.send(404)) as server:
        assert_cannot_start(bench(server.url), "answered by status 404")


def test_fewer_sessions_than_visitors(bench):
    def end_the_oldest(request):
        request.answer()
        if len(request.server.counters) > 3:
            del request.server.counters[min(request.server.counters)]

    with BadServer(login=end_the_oldest) as server:
        assert_cannot_start(bench(server.url), "app_sessions_per_user")


@pytest.mark.parametrize("url", ["http://192.0.2.1", "http://[2001:db8::1]"])
def test_a_foreign_address_is_left_alone(bench, url):
    assert_cannot_start(bench(url), "--host-is-mine")


def assert_cannot_start(ended, words):
    status, said = ended
    assert status == 2
    assert words in said


@pytest.mark.parametrize("option", ["--rate=2001", "--rate=0", "--visitors=501", "--seconds=7201"])
def test_hard_caps(bench, option, capsys):
    with pytest.raises(SystemExit) as exit:
        bench("http://127.0.0.1", option)
    assert exit.value.code == 2
    assert "must be from" in capsys.readouterr().err


def test_private_addresses():
    mine = "127.0.0.2 ::1 10.1.2.3 172.31.0.1 192.168.0.1 fd00::1 169.254.1.1 fe80::1"
    others = "8.8.8.8 172.32.0.1 192.0.2.1 100.64.0.1 0.0.0.0 2001:db8::1 ::"
    assert all(map(is_private, mine.split()))
    assert not any(map(is_private, others.split()))


def test_tls(bench, tmp_path):
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test"
    make += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(make.split(), check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    with BadServer(tls=tls) as server:
        assert_cannot_start(bench(server.url), "for TLS see --ca")
        status, result = bench(server.url, f"--ca={certificate}")
    assert status == 0
    assert result["requests"] >= 100


def test_load_lasts_as_long_as_the_test_needs(tmp_path):
    with BadServer() as server:
        with load(server.url, ACCOUNT, requests=20, rate=500, visitors=4, timeline=tmp_path / "timeline") as run:
            assert run.result is None
            assert server.enough.wait(20)
        assert_nobody_noticed(run.result, worst_wait=20)
        assert run.result["requests"] == server.seen.total() - 1 >= 99
    assert json.loads((tmp_path / "timeline").read_text())


def test_load_goes_on_until_the_requests_are_made():
    with BadServer() as server:
        with load(server.url, ACCOUNT, requests=50, rate=500, visitors=4) as run:
            pass
        assert run.result["requests"] >= 50


def test_load_that_can_not_start():
    with pytest.raises(AssertionError, match="doesn't answer"), load(f"http://127.0.0.1:{free_port()}", ACCOUNT):
        pass


ROWS = [
    {"time": 1000.5 + n, "requests": 3, "errors": 0, "worst_wait": 0.01, "nodes": {"a&b": 1, "c": 2}} for n in range(9)
]
MARKS = [("a&b out", 2), ("odd", 2.1), ("a&b back", 4), ("c out", 5)]


def draw(rows):
    marks = [{"time": 1000.5 + second, "what": what} for what, second in MARKS]
    svg = ET.fromstring(str(Figure(rows, marks, "A <title>", "a machine")))
    elements = list(svg.iter())
    named = {
        name: [each for each in elements if each.get("class") == name] for name in ("node", "errors", "wait", "mark")
    }
    return named, [each for each in elements if each.tag.endswith("}text")]


def test_figure():
    named, texts = draw(ROWS)
    words = [each.text for each in texts]
    assert len(named["node"]) == 2
    # a step for each second, there and, for an area, back
    assert [path.get("d").count("H") for path in named["node"]] == [18, 18]
    assert [path.get("d").count("H") for path in named["errors"] + named["wait"]] == [9, 9]
    assert {"A <title>", "0 failed", "a&b", "c"} <= {*words}
    assert any(each.startswith("27 requests, 0 failed, longest wait 0.01 s · 1970-01-01 00:16 UTC") for each in words)
    band, line, lone = named["mark"]
    assert (band.tag[-4:], line.tag[-4:], lone.tag[-4:]) == ("rect", "line", "line")
    assert float(band.get("width")) == pytest.approx(2 / 9 * 880, abs=0.1)
    labels = {each.text: float(each.get("y")) for each in texts if each.text in ("a&b out", "odd", "c out")}
    assert len(labels) == 3
    assert labels["a&b out"] != labels["odd"], "one would cover the other"


def test_figure_of_failures():
    named, texts = draw([*ROWS, ROWS[0] | {"errors": 2, "worst_wait": 12}])
    words = [each.text for each in texts]
    assert "0 failed" not in words
    assert "Failed requests per second: 2 in all" in words
    assert len(set(re.findall(r"V[\d.]+", named["errors"][0].get("d")))) == 2
