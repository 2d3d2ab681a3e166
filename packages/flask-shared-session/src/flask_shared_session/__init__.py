"""Sessions that all nodes share, for any Flask app.

    app = Flask(__name__)
    app.config["SESSION_REDIS_URL"] = "redis://localhost:6379"
    SharedSession(app)

`flask.session` is then a `Session`: a mapping of JSON values with the methods
`log_in()`, `rotate()`, `end()`, `save()`, `increment()`, and `sessions()` of its user.
"""

from .errors import SessionEnded, SessionMoved, SessionStoreError, SessionTooLarge
from .extension import SharedSession
from .interface import SharedSessionInterface, current_session, current_store
from .memory_store import MemoryStore
from .observer import Observer
from .redis_store import RedisStore
from .session import Session
from .settings import SettingError
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
    "SessionMoved",
    "SessionStoreError",
    "SessionTooLarge",
    "SettingError",
    "SharedSession",
    "SharedSessionInterface",
    "Store",
    "current_session",
    "current_store",
]
