"""Sessions that every node knows, for any Flask app.

    store = RedisStore(redis_client, prefix="myapp:", idle=1800, lifetime=28800)
    app.session_interface = SharedSessionInterface(store)

`flask.session` is then a `Session`: a mapping of JSON values that can also
`rotate()`, `end()`, `save()` and `increment()`.
"""

from .errors import SessionEnded, SessionStoreError
from .interface import SharedSessionInterface
from .memory_store import MemoryStore
from .redis_store import RedisStore
from .session import Session
from .store import Record, Store

__all__ = [
    "MemoryStore",
    "Record",
    "RedisStore",
    "Session",
    "SessionEnded",
    "SessionStoreError",
    "SharedSessionInterface",
    "Store",
]
