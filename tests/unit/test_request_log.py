"""What is found about one request in logs that also have others, and how it is shown."""

import gzip
import json
import os
import time

import pytest
from lib.ansible_runs import load_module

request_log = load_module("plugins/modules/request_log.py")
shown = load_module("plugins/filter/request_log.py")

ID, OTHER = "a" * 32, "b" * 32
AT = 1_790_000_000.5  # when the request was over; it took 1 s


def access(request_id=ID, **changes):
    fields = {
        "time": "2026-09-21T14:13:20+00:00",
        "at": f"{AT:.3f}",
        "process": "12",
        "connection": "34",
        "request_id": request_id,
        "client": "192.0.2.9",
        "method": "GET",
        "uri": "/api/session",
        "status": "200",
        "request_time": "1.000",
        "upstream": "192.0.2.31:8000, 192.0.2.32:8000",
        "upstream_status": "502, 200",
        "response_time": "0.9, 0.1",
        "node": "app2",
        "release": "1.0-abc",
        "run": "r1",
    }
    return json.dumps(fields | changes) + "\n"


def error(at=AT, process=12, connection=34, text="connect() failed"):
    stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(at))
    return f"{stamp} [error] {process}#{process}: *{connection} {text} while connecting to upstream\n"


@pytest.fixture
def logs(tmp_path):
    """nginx's logs: other requests, one of which names the id in its address."""
    (tmp_path / "access.log").write_text(access(OTHER) + access(OTHER, uri=f"/{ID}") + "no JSON " + ID + "\n")
    (tmp_path / "error.log").write_text("")
    return tmp_path


def texts(folder):
    return [entry["text"] for entry in request_log.ask_nginx(folder, ID)]


def test_a_request_that_is_not_there(logs):
    assert texts(logs) == []


@pytest.mark.parametrize("name", ["access.log", "access.log.1", "access.log.7.gz"])
def test_the_line_is_found_in_rotated_and_packed_files(logs, name):
    with (gzip.open if name.endswith(".gz") else open)(logs / name, "at") as file:
        file.write(access())
    (text,) = texts(logs)
    assert text.startswith(
        '192.0.2.9 "GET /api/session" 200, 1.000 s; 192.0.2.31:8000, 192.0.2.32:8000 answered 502, 200'
    )
    assert "app2, release 1.0-abc, run r1" in text


def test_a_line_of_before_the_log_had_milliseconds(logs):
    old = json.loads(access())
    del old["at"]
    (logs / "access.log.1").write_text(json.dumps(old) + "\n")
    assert len(texts(logs)) == 1


def test_the_balancers_own_answer_names_no_node(logs):
    (logs / "access.log").write_text(access(status="503", upstream=""))
    assert texts(logs) == ['192.0.2.9 "GET /api/session" 503, 1.000 s']


def test_errors_are_told_apart_by_process_connection_and_time(logs):
    """A connection is used for many requests, and numbers begin anew with nginx."""
    (logs / "access.log").write_text(access())
    others = error(AT - 5), error(AT + 5), error(process=13), error(connection=35)
    (logs / "error.log").write_text("".join(others) + "a word of another kind\n")
    with gzip.open(logs / "error.log.2.gz", "wt") as file:
        file.write(error(text="it is this one"))
    assert ["it is this one" in text for text in texts(logs)] == [True, False]


def test_errors_are_not_looked_for_in_files_that_are_older(logs):
    (logs / "access.log").write_text(access())
    (logs / "error.log.1").write_text(error())
    os.utime(logs / "error.log.1", (AT - 60, AT - 60))
    assert len(texts(logs)) == 1


def test_lines_of_all_machines_are_merged_in_order_of_time():
    results = {
        "lb1": {"looked": "here", "entries": [{"time": AT, "text": "over"}]},
        "app1": {"looked": "there", "entries": [{"time": AT - 0.2, "text": "begun \x1b[31m"}]},
        "app2": {"unreachable": True},
    }
    assert shown.request_lines(results, ID).splitlines() == [
        "2026-09-21 14:13:20.300Z  app1  begun ?[31m",
        "2026-09-21 14:13:20.500Z  lb1   over",
        "Could not be asked: app2",
    ]


def test_nothing_found_says_where_was_looked():
    text = shown.request_lines({"lb1": {"looked": "here", "entries": []}, "app1": {"unreachable": True}}, ID)
    assert text.splitlines() == [
        f"Nothing is known of request {ID}. Looked in:",
        "  lb1: here",
        "Could not be asked: app1",
    ]
