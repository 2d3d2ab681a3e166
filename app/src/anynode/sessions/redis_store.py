"""Sessions in Redis 7.0 or later: one hash per session, one script per step."""

import logging
from collections.abc import Collection, Mapping
from importlib.resources import files

from redis.exceptions import RedisError, ResponseError

from .errors import SessionStoreError
from .ids import SLOT_CHARACTERS, digest
from .store import Record

FORMAT = "1"
_VALUE = "s:"
_log = logging.getLogger(__name__)


class RedisStore:
    """A `Store` in Redis.

    client: a redis-py client (plain, Sentinel's or Cluster's) with `decode_responses` off. Its timeouts are
        what a request may have to wait for; it must not repeat commands by itself.
    prefix: what the names of all keys begin with.
    idle, lifetime: seconds after which a session ends without use, and in any case.
    slack: the share of `idle` by which a session's expiry may lag behind before a read moves it.
    """

    def __init__(self, client, *, prefix: str, idle: float, lifetime: float, slack: float = 0.1):
        if client.get_encoder().decode_responses:
            raise ValueError("RedisStore needs a client with decode_responses=False")
        self._client = client
        self._prefix = prefix
        self._idle = int(idle * 1000)
        self._lifetime = int(lifetime * 1000)
        self._slack = int(idle * slack * 1000)
        self._read = self._script("read")
        self._create = self._script("create")
        self._update = self._script("update")
        self._increment = self._script("increment")

    def read(self, session_id: str) -> Record | None:
        reply = self._ask(self._read, [self._key(session_id)], [self._idle, self._slack])
        if not reply:
            return None
        fields = {name.decode(): text.decode() for name, text in zip(reply[::2], reply[1::2], strict=True)}
        if fields.get("m:format") != FORMAT or not fields.get("m:expires", "").isdecimal():
            raise ValueError("not a session of this format")
        texts = {name.removeprefix(_VALUE): text for name, text in fields.items() if name.startswith(_VALUE)}
        return Record(texts, int(fields.get("m:created", "")))

    def create(self, session_id: str, texts: Mapping[str, str], replaces: str | None = None) -> int:
        keys = [self._key(each) for each in (session_id, replaces) if each]
        return self._ask(self._create, keys, [self._idle, self._lifetime, FORMAT, *_pairs(texts)])

    def update(
        self, session_id: str, texts: Mapping[str, str], deleted: Collection[str], previous: str | None = None
    ) -> bool:
        keys = [self._key(each) for each in (session_id, previous) if each]
        names = [_VALUE + key for key in deleted]
        return self._ask(self._update, keys, [self._idle, len(names), *names, *_pairs(texts)]) == 1

    def increment(self, session_id: str, key: str, by: int) -> int | None:
        return self._ask(self._increment, [self._key(session_id)], [self._idle, _VALUE + key, by])

    def delete(self, session_id: str) -> None:
        self._ask(self._client.delete, self._key(session_id))

    def ping(self) -> None:
        self._ask(self._client.ping)

    def _key(self, session_id: str) -> str:
        # the braces choose the cluster slot by the id's first characters alone, see ids.py
        return f"{self._prefix}session:{{{session_id[:SLOT_CHARACTERS]}}}{digest(session_id)}"

    def _script(self, name: str):
        folder = files(__package__)
        return self._client.register_script((folder / "life.lua").read_text() + (folder / f"{name}.lua").read_text())

    @staticmethod
    def _ask(command, *arguments):
        try:
            return command(*arguments)
        except RedisError as error:
            # a wrong value is one session's trouble, anything else is the store's
            if isinstance(error, ResponseError):
                if "WRONGTYPE" in str(error):
                    raise ValueError("not a hash") from error
                if "hash value is not an integer" in str(error):
                    raise TypeError("can't increment a value that isn't an integer") from error
            _log.warning("session store: %s: %s", type(error).__name__, error)
            raise SessionStoreError from error


def _pairs(texts: Mapping[str, str]) -> list[str]:
    return [part for key, text in texts.items() for part in (_VALUE + key, text)]
