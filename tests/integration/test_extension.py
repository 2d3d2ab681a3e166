"""SharedSession: an app with two lines, in two processes' worth of apps; its commands; the installed wheel."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from flask import Flask, session
from flask_shared_session import MemoryStore, SettingError, SharedSession
from lib.ansible_runs import ROOT
from lib.redis_server import PREFIX, REDIS_PASSWORD, RedisServer


def make_app(url: str, **config: object) -> Flask:
    app = Flask("shop")
    app.config.update(SESSION_REDIS_URL=url, SESSION_PREFIX=PREFIX, **config)
    SharedSession(app)

    @app.get("/add")
    def add() -> str:
        session["number"] = session.get("number", 0) + 1
        return str(session["number"])

    return app


def url_of(server: RedisServer) -> str:
    return f"redis://app:{REDIS_PASSWORD}@127.0.0.1:{server.port}"


@pytest.mark.every_server
def test_a_session_of_an_app_is_read_by_another(redis: RedisServer) -> None:
    first, second = (make_app(url_of(redis)).test_client() for _ in range(2))
    assert first.get("/add").text == "1"
    cookie = first.get_cookie("session")
    assert cookie
    second.set_cookie("session", cookie.value)
    assert second.get("/add").text == "2"


def test_an_app_factory_may_use_init_app(redis: RedisServer) -> None:
    sessions = SharedSession()
    app = Flask("shop")
    app.config["SESSION_REDIS_URL"] = url_of(redis)
    sessions.init_app(app)
    assert app.extensions["shared_session"] is sessions


def test_sessions_in_memory_are_unknown_to_other_apps() -> None:
    first, second = (make_app("memory://") for _ in range(2))
    assert isinstance(first.session_interface.store, MemoryStore)  # type: ignore[attr-defined]
    client, other = first.test_client(), second.test_client()
    client.get("/add")
    assert client.get("/add").text == "2"
    cookie = client.get_cookie("session")
    assert cookie
    other.set_cookie("session", cookie.value)
    assert other.get("/add").text == "1"


def test_an_invalid_option_stops_the_start() -> None:
    with pytest.raises(SettingError, match="SESSION_IDLE_SECONDS is -1"):
        make_app("memory://", SESSION_IDLE_SECONDS=-1)


def test_redis_is_not_needed_at_the_start() -> None:
    client = make_app("redis://127.0.0.1:1").test_client()
    response = client.get("/add")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_the_commands_are_added(redis: RedisServer) -> None:
    app = make_app(url_of(redis))
    app.test_client().get("/add")
    printed = app.test_cli_runner().invoke(args=["sessions", "stats"])
    assert printed.output.splitlines()[0] == "sessions\t1"


def test_the_wheel_has_all_files_and_needs_no_repository(tmp_path: Path) -> None:
    """Installed into an environment of its own, from an empty directory."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = tmp_path / "source"  # the build leaves files there
    shutil.copytree(ROOT / "packages/flask-shared-session", source)
    wheel_options = ["--no-deps", "--no-build-isolation", f"--wheel-dir={tmp_path}"]
    subprocess.run([*pip, "wheel", *wheel_options, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("flask_shared_session-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    install_options = ["--no-deps", "--no-index", f"--target={site}"]
    subprocess.run([*pip, "install", *install_options, str(wheel)], check=True, capture_output=True)
    # What the package needs comes from the environment of the tests.
    others = [each for each in sys.path if each.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others))
    (tmp_path / "empty").mkdir()
    program = (
        "from flask import Flask; from flask_shared_session import SharedSession, RedisStore;"
        " app = Flask('shop'); app.config['SESSION_REDIS_URL'] = 'redis://127.0.0.1:1'; SharedSession(app);"
        " import flask_shared_session; print(flask_shared_session.__file__)"
    )
    command = [str(tmp_path / "venv/bin/python"), "-I", "-c", program]
    done = subprocess.run(command, cwd=tmp_path / "empty", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
