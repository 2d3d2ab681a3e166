"""The extension: a Flask app with its store, its commands and, for deployments, its probe."""

from flask import Flask

from . import commands, probe
from .interface import SharedSessionInterface
from .memory_store import MemoryStore
from .observer import Observer
from .redis_client import client_of
from .redis_store import RedisStore
from .settings import Settings
from .store import Store


class SharedSession:
    """Stores the sessions of a Flask app in Redis, with the SESSION_* options.

    SharedSession(app), or SharedSession().init_app(app) in an app factory. observer: of the events, see SessionMetrics.
    """

    def __init__(self, app: Flask | None = None, *, observer: Observer | None = None):
        self._observer = observer
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Replace the session interface of the app, and add the commands `flask sessions`.

        Raises SettingError if an option is missing or invalid. Redis is not needed at this time, except for a cluster.
        """
        settings = Settings.read(app.config, app.name)
        app.session_interface = SharedSessionInterface(make_store(settings, self._observer))
        app.extensions["shared_session"] = self
        app.cli.add_command(commands.group)
        if settings.probe_key:
            probe.register(app, settings.probe_key)


def make_store(settings: Settings, observer: Observer | None = None) -> Store:
    """Return the store of these options."""
    if settings.redis_url.kind == "memory":
        return MemoryStore(
            idle=settings.idle_seconds,
            lifetime=settings.lifetime_seconds,
            per_user=settings.per_user,
            max_bytes=settings.max_bytes,
        )
    client = client_of(settings.redis_url, ca_file=settings.ca_file, max_connections=settings.max_connections)
    return RedisStore(
        client,
        prefix=settings.prefix,
        idle=settings.idle_seconds,
        lifetime=settings.lifetime_seconds,
        per_user=settings.per_user,
        max_bytes=settings.max_bytes,
        acknowledge=settings.acknowledge,
        observer=observer,
    )
