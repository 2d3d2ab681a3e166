"""The command line interface for operators."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from flask_shared_session import Session
from flask_shared_session.ids import index_name
from lib.demo_app import PASSWORD, USER, log_in, make_app
from lib.redis_server import free_port


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    def run(*words: str, **options: Any) -> Result:
        return app.test_cli_runner().invoke(args=["sessions", *words], **options)

    return run


def lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.output.splitlines()]


def test_list_shows_times_address_node_and_agent(client: FlaskClient, run: Callable[..., Result]) -> None:
    client.post(
        "/api/login",
        json={"username": USER, "password": PASSWORD},
        environ_base={"REMOTE_ADDR": "203.0.113.9"},
        headers={"User-Agent": "Browser/1 \x1b[2Jx"},
    )
    ((handle, began, seen, *rest),) = lines(run("list", USER))
    assert len(handle) == 30
    assert began.endswith("Z") and began <= seen
    assert rest == ["203.0.113.9", "app1", "Browser/1 ?[2Jx"]
    assert lines(run("list", "bob")) == []


def test_end_ends_a_single_session(app: Flask, client: FlaskClient, run: Callable[..., Result]) -> None:
    log_in(client)
    log_in(app.test_client())
    handle = lines(run("list", USER))[0][0]
    assert run("end", handle).exit_code == 0
    assert len(lines(run("list", USER))) == 1
    again = run("end", handle)
    assert again.exit_code == 1
    assert "No session has this handle." in again.output


def test_a_handle_may_start_with_a_dash(app: Flask, run: Callable[..., Result]) -> None:
    user = next(name for name in map(str, count()) if index_name(name).startswith("-"))
    with app.test_client().session_transaction() as session:
        assert isinstance(session, Session)
        session.log_in(user)
    ((handle, *_),) = lines(run("list", user))
    assert handle.startswith("-")
    assert run("end", handle).exit_code == 0


def test_end_user_ends_all_sessions_of_a_user(app: Flask, run: Callable[..., Result]) -> None:
    for user in (USER, USER, "bob"):
        log_in(app.test_client(), user)
    assert run("end-user", USER).output == "Ended: 2\n"
    assert lines(run("stats")) == [["sessions", "1"], ["logged_in", "1"], ["users", "1"]]


def test_end_all_requires_a_confirmation(app: Flask, client: FlaskClient, run: Callable[..., Result]) -> None:
    log_in(client)
    assert run("end-all", input="n\n").exit_code == 1
    assert client.get("/api/session").status_code == 200
    assert run("end-all", "--yes").output == "Ended: 1\n"
    assert client.get("/api/session").status_code == 401


@pytest.mark.parametrize("words", ["list x", f"end {'A' * 30}", "end-user x", "end-all --yes", "stats"])
def test_commands_report_an_unavailable_redis(words: str) -> None:
    result = make_app(free_port()).test_cli_runner().invoke(args=["sessions", *words.split()])
    assert result.exit_code == 1
    assert result.output.strip().endswith("Error: The session store is unavailable.")


def test_commands_have_help(run: Callable[..., Result]) -> None:
    assert "End a session" in run("--help").output
