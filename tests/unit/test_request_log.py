"""The search for the log lines of one request."""

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import load_module

request_log = load_module("plugins/modules/request_log.py")
merged = load_module("plugins/filter/request_log.py")

ID, OTHER = "a" * 32, "b" * 32
AT = 1_790_000_000.5  # the end of the request, which took 1 s


def access(request_id: str = ID, **changes: Any) -> str:
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
        "deployment": "r1",
    }
    return json.dumps(fields | changes) + "\n"


def error(at: float = AT, process: int = 12, connection: int = 34, text: str = "connect() failed") -> str:
    timestamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(at))
    return f"{timestamp} [error] {process}#{process}: *{connection} {text} while connecting to upstream\n"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """nginx's logs with other requests; one of them has the id in its path."""
    (tmp_path / "access.log").write_text(access(OTHER) + access(OTHER, uri=f"/{ID}") + "no JSON " + ID + "\n")
    (tmp_path / "error.log").write_text("")
    return tmp_path


def texts(folder: Path) -> list[str]:
    return [entry["text"] for entry in request_log.search_nginx(folder, ID)]


def test_an_unknown_request_has_no_lines(logs: Path) -> None:
    assert texts(logs) == []


@pytest.mark.parametrize("name", ["access.log", "access.log.1", "access.log.7.gz"])
def test_the_line_is_found_in_rotated_and_compressed_files(logs: Path, name: str) -> None:
    with (gzip.open if name.endswith(".gz") else open)(logs / name, "at") as file:
        file.write(access())
    (text,) = texts(logs)
    assert text.startswith(
        '192.0.2.9 "GET /api/session" 200, 1.000 s; 192.0.2.31:8000, 192.0.2.32:8000 answered 502, 200'
    )
    assert "app2, release 1.0-abc, deployment r1" in text


def test_a_response_of_the_balancer_itself_names_no_node(logs: Path) -> None:
    (logs / "access.log").write_text(access(status="503", upstream=""))
    assert texts(logs) == ['192.0.2.9 "GET /api/session" 503, 1.000 s']


def test_errors_are_identified_by_process_connection_and_time(logs: Path) -> None:
    """A connection serves many requests, and its number is used again after a restart of nginx."""
    (logs / "access.log").write_text(access())
    others = error(AT - 5), error(AT + 5), error(process=13), error(connection=35)
    (logs / "error.log").write_text("".join(others) + "a line of another form\n")
    with gzip.open(logs / "error.log.2.gz", "wt") as file:
        file.write(error(text="the error of this request"))
    assert ["the error of this request" in text for text in texts(logs)] == [True, False]


def test_files_from_before_the_request_are_not_searched_for_errors(logs: Path) -> None:
    (logs / "access.log").write_text(access())
    (logs / "error.log.1").write_text(error())
    os.utime(logs / "error.log.1", (AT - 60, AT - 60))
    assert len(texts(logs)) == 1


def test_lines_of_all_hosts_are_merged_in_order_of_time() -> None:
    results = {
        "lb1": {"searched": "here", "entries": [{"time": AT, "text": "ended"}]},
        "app1": {"searched": "there", "entries": [{"time": AT - 0.2, "text": "started \x1b[31m"}]},
        "app2": {"unreachable": True},
    }
    assert merged.request_lines(results, ID).splitlines() == [
        "2026-09-21 14:13:20.300Z  app1  started ?[31m",
        "2026-09-21 14:13:20.500Z  lb1   ended",
        "Unreachable: app2",
    ]


def test_without_a_line_the_searched_logs_are_listed() -> None:
    text = merged.request_lines({"lb1": {"searched": "here", "entries": []}, "app1": {"unreachable": True}}, ID)
    assert text.splitlines() == [
        f"No log has a line about request {ID}. Searched:",
        "  lb1: here",
        "Unreachable: app1",
    ]
