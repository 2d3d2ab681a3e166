"""Sessions that all nodes share, for any Flask app.

    store = RedisStore(redis_client, prefix="myapp:", idle=1800, lifetime=28800)
    app.session_interface = SharedSessionInterface(store)

`flask.session` is then a `Session`: a mapping of JSON values with the methods
`log_in()`, `rotate()`, `end()`, `save()`, `increment()`, and `sessions()` of its user.
"""

from .errors import SessionEnded, SessionStoreError
from .interface import SharedSessionInterface, current_session, current_store
from .memory_store import MemoryStore
from .observer import Observer
from .redis_store import RedisStore
from .session import Session
from .store import Counts, Login, Record, SessionInfo, Store

__all__ = [
    "Counts",
    "Login",
    "MemoryStore",
    "Observer",
    "Record",
    "RedisStore",
    "Session",
    "SessionEnded",
    "SessionInfo",
    "SessionStoreError",
    "SharedSessionInterface",
    "Store",
    "current_session",
    "current_store",
]
