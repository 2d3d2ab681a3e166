"""Anynode: a Flask app with sessions that all nodes share."""

from typing import Any

from flask import Flask
from flask_shared_session import MemoryStore, Observer, RedisStore, SharedSessionInterface, Store
from flask_shared_session.commands import group as session_commands
from flask_shared_session.redis_client import make_client

from . import api, csrf, errors, health, views
from .config import Config
from .hash_queue import HashQueue
from .login_limiter import Limits, LoginLimiter, NoLoginLimiter
from .proxy import TrustedProxy
from .response_headers import ResponseHeaders
from .users import Users


def create_app(config: Config | None = None) -> Flask:
    """Create the app of a node.

    config: the settings; None reads them from environment variables. Returns the app. Raises ConfigError if a variable
    is missing or invalid.
    """
    config = config or Config.from_environ()
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=config.secret_key,
        SECRET_KEY_FALLBACKS=config.secret_key_fallbacks,
        MAX_CONTENT_LENGTH=config.max_body_bytes,
        # With the prefix __Host-, browsers require Secure, Path=/ and no Domain: no other host can set the cookie
        SESSION_COOKIE_NAME="__Host-session" if config.cookie_secure else "session",
        SESSION_COOKIE_SECURE=config.cookie_secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
    )
    app.extensions["anynode"] = config
    store = _make_store(config)
    app.extensions["users"] = Users(config.users)
    app.extensions["login_limiter"] = _make_login_limiter(config, store)
    app.extensions["hash_queue"] = HashQueue(config.login_threads)
    app.session_interface = SharedSessionInterface(store)
    for part in (csrf, errors, health, api, views):
        part.register(app)
    app.cli.add_command(session_commands)
    headers = {"X-Node": config.node, "X-Release": config.release, "X-Deployment": config.deployment}
    with_headers = ResponseHeaders(app.wsgi_app, headers)
    app.wsgi_app = TrustedProxy(with_headers, config.trusted_proxies)  # type: ignore[method-assign] # Flask's own advice
    return app


def _make_store(config: Config) -> Store:
    limits: dict[str, Any] = {
        "idle": config.session_idle_seconds,
        "lifetime": config.session_lifetime_seconds,
        "per_user": config.sessions_per_user,
    }
    if config.session_store == "memory":
        return MemoryStore(**limits)
    assert config.redis_host and config.redis_password  # Config requires both for this store
    client = make_client(
        host=config.redis_host,
        port=config.redis_port,
        username=config.redis_username,
        password=config.redis_password,
        ca_file=config.redis_ca_file or None,
    )
    return RedisStore(client, prefix=config.session_prefix, observer=_make_observer(config), **limits)


def _make_login_limiter(config: Config, store: Store) -> NoLoginLimiter:
    if not isinstance(store, RedisStore):
        return NoLoginLimiter()
    limits = Limits(
        window=config.login_window_seconds,
        client=config.login_failures,
        address=config.login_address_failures,
        account=config.login_account_failures,
        pause=config.login_pause_seconds,
    )
    return LoginLimiter(store, config.session_prefix, limits)


def _make_observer(config: Config) -> Observer:
    if not config.metrics_dir:
        return Observer()
    from flask_shared_session.metrics import SessionMetrics  # imported late: only metrics need prometheus-client

    return SessionMetrics()
