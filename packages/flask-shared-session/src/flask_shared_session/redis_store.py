"""Sessions in Redis 7.0 or later: a hash for each session, a script for each step."""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from itertools import islice
from typing import Any

from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError, TimeoutError

from . import arguments
from .breaker import Breaker
from .connections import Connections, NoFreeConnection, NotAcknowledged
from .errors import SessionStoreError
from .ids import INDEX_CHARACTERS, digest, index_name, is_handle, make_id, slot_of
from .observer import Observer
from .store import MAX_BYTES, NOTHING, PER_USER, Counts, Login, Record, SessionInfo, as_moment

# "major" or "major.minor". A release that adds fields raises the minor number: other releases ignore and keep unknown
# fields, since a write touches changed fields only. A release that changes the meaning of a field raises the major
# number: older releases then answer 503 and don't touch the session.
FORMAT = "1"
_FORMAT_SHAPE = re.compile(r"([1-9][0-9]{0,3})(\.[0-9]{1,4})?")
_VALUE = "s:"
_BATCH = 1000
_log = logging.getLogger(__name__)


class RedisStore:
    """A `Store` in Redis. If Redis doesn't answer several times, calls fail at once, see `Breaker`.

    client: a redis-py client (plain, Sentinel or Cluster) with decode_responses=False. Its timeouts limit the time that
        a request waits; it must not retry commands.
    prefix: of the names of all keys.
    idle, lifetime: seconds until a session ends without use, and in any case.
    slack: fraction of `idle` by which a session's expiry may lag before a read extends it.
    per_user: maximum number of sessions of a user; the next login ends the oldest session.
    acknowledge: number of replicas that must have received a new session, a rotation or the end of sessions, before the
        call returns; with fewer it raises SessionStoreError, and the write may be lost at a failover. Not for clusters.
    observer: receives events, for example `metrics.SessionMetrics()`.
    Raises ValueError for a client with decode_responses=True.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        prefix: str,
        idle: float,
        lifetime: float,
        slack: float = 0.1,
        per_user: int = PER_USER,
        max_bytes: int = MAX_BYTES,
        acknowledge: int = 0,
        observer: Observer | None = None,
    ):
        if not isinstance(client, (Redis, RedisCluster)):
            kind = f"{type(client).__module__}.{type(client).__name__}"
            raise TypeError(f"client must be a redis.Redis or a RedisCluster, not {kind}: see make_client()")
        if client.get_encoder().decode_responses:
            raise ValueError("RedisStore needs a client with decode_responses=False")
        arguments.text("prefix", prefix)
        arguments.seconds("idle", idle)
        arguments.seconds("lifetime", lifetime)
        arguments.count("per_user", per_user)
        self.max_bytes = arguments.count("max_bytes", max_bytes)
        if acknowledge and isinstance(client, RedisCluster):
            raise ValueError("acknowledge needs a single Redis or Sentinel, not a cluster: set it to 0")
        self._acknowledge = acknowledge
        self._client = client
        self._prefix = prefix
        self._idle = int(idle * 1000)
        self.lifetime = lifetime
        self._slack = int(idle * slack * 1000)
        self._per_user = per_user
        self.observer = observer or Observer()
        self._breaker = Breaker()
        self._is_cluster = isinstance(client, RedisCluster)
        self._execute: Callable[..., Any]
        if isinstance(client, RedisCluster):
            self._execute = client.execute_command
        else:
            self._execute = Connections(client.connection_pool).execute
        # A server that can't write, such as a replica, refuses a script that is declared as writing before it starts,
        # so stale sessions aren't read either. Without free memory, sessions can still be read and ended.
        writes, frees = "#!lua\n", "#!lua flags=allow-oom\n"
        self._read = self._script(frees, "read")
        self._gone = self._script(frees, "gone")
        self._create = self._script(writes, "create")
        self._update = self._script(writes, "update")
        self._increment = self._script(writes, "increment")
        self._delete = self._script(frees, "delete")
        self._list = self._script(frees, "list")
        self._end_user = self._script(frees, "end_user")
        self._ping = self._script(writes, "ping")

    def read(self, session_id: str) -> Record | None:
        reply = self._call("read", self._read, [self._key(session_id)], [self._idle, self._slack])
        if not reply:
            return None
        fields = {name.decode(): text.decode() for name, text in zip(reply[::2], reply[1::2], strict=True)}
        written_as = _FORMAT_SHAPE.fullmatch(fields.get("m:format", ""))
        if written_as and int(written_as[1]) > int(FORMAT.partition(".")[0]):
            _log.warning("session store: a session has format %s, this release knows %s", written_as[0], FORMAT)
            self.observer.failed("newer_format")
            raise SessionStoreError
        if not written_as or not fields.get("m:expires", "").isdecimal():
            raise ValueError("not a session of this format")
        texts = {name.removeprefix(_VALUE): text for name, text in fields.items() if name.startswith(_VALUE)}
        return Record(texts, int(fields.get("m:created", "")), fields.get("m:user"), fields.get("m:handle"))

    def gone(self, session_id: str) -> str:
        kind: bytes | None = self._call("read", self._gone, [self._key(session_id)])
        return (kind or b"").decode()

    def create(
        self, session_id: str, texts: Mapping[str, str], replaces: str | None = None, login: Login | None = None
    ) -> int:
        if replaces and self._is_cluster and slot_of(replaces) != slot_of(session_id):
            # A script can't span two slots, so this login takes two calls. An interruption between them makes the user
            # log in again; in the other order, the old id would survive the login.
            self.observer.ended("replaced", self._end(replaces, "", "moved"))
            replaces = None
        keys = [self._key(each) for each in (session_id, replaces) if each]
        owner = [part for name, text in login._asdict().items() for part in ("m:" + name, text)] if login else []
        handle = login.handle if login else ""
        arguments = [self._idle, int(self.lifetime * 1000), FORMAT, self._per_user, handle, *owner, *_pairs(texts)]
        created, replaced, capped = self._call("create", self._create, keys, arguments, self._acknowledge)
        self.observer.ended("replaced", replaced)
        self.observer.ended("cap", capped)
        return int(created)

    def update(
        self,
        session_id: str,
        texts: Mapping[str, str],
        deleted: Collection[str],
        previous: str | None = None,
        added: Mapping[str, str] = NOTHING,
    ) -> bool:
        keys = [self._key(each) for each in (session_id, previous) if each]
        names = [_VALUE + key for key in deleted]
        arguments = [self._idle, len(names), *names, len(added), *_pairs(added), *_pairs(texts)]
        return bool(self._call("update", self._update, keys, arguments, self._acknowledge if previous else 0))

    def increment(self, session_id: str, key: str, by: int) -> int | None:
        arguments = [self._idle, _VALUE + key, by]
        total: int | None = self._call("increment", self._increment, [self._key(session_id)], arguments)
        return total

    def delete(self, session_id: str, handle: str | None = None) -> bool:
        return self._end(session_id, handle or "", "ended")

    def _end(self, session_id: str, handle: str, kind: str) -> bool:
        replicas = self._acknowledge
        return bool(self._call("delete", self._delete, [self._key(session_id)], [handle, kind, replicas], replicas))

    def sessions_of(self, user: str) -> list[SessionInfo]:
        rows = self._call("list", self._list, [self._index(index_name(user))])
        texts = ([(part or b"").decode(errors="replace") for part in row] for row in rows)
        return [
            SessionInfo(handle, as_moment(int(created)), as_moment(int(seen)), *rest)
            for handle, created, seen, *rest in texts
            if created.isdecimal() and seen.isdecimal()
        ]

    def end_session(self, handle: str, user: str | None = None) -> bool:
        name = handle[:INDEX_CHARACTERS]
        if not is_handle(handle) or user is not None and name != index_name(user):
            return False
        return bool(self._end_sessions(name, "only", handle))

    def end_sessions(self, user: str, but: str | None = None) -> int:
        return self._end_sessions(index_name(user), "but", but or "")

    def _end_sessions(self, name: str, which: str, handle: str) -> int:
        replicas = self._acknowledge
        return int(self._call("end_user", self._end_user, [self._index(name)], [which, handle, replicas], replicas))

    def end_everything(self) -> int:
        # the indexes stay: a concurrent login must be in an index, and ended sessions are removed at the next use
        ended: int = sum(self._call("end_everything", self._client.delete, *keys) for keys in self._all_keys())
        if self._acknowledge:
            self.delete(make_id())  # which waits for replicas, also with the deletions before it
        return ended

    def count(self) -> Counts:
        sessions, users = 0, []
        for keys in self._all_keys():
            sessions += len(keys)
            with self._client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hget(key, "m:user")
                replies = self._call("count", pipeline.execute, False)  # False: tolerate values of other applications
            users += [each for each in replies if isinstance(each, bytes)]
        return Counts(sessions, len(users), len(set(users)))

    def ping(self) -> None:
        self._call("ping", self._ping, [])

    def script(self, step: str, text: str) -> Callable[[list[str], Sequence[str | int]], Any]:
        """Return a function that runs a Lua script on the store's connections and behind its circuit breaker.

        step: name of the step for the observer. text: the script. The function takes keys and arguments, returns the
        reply and raises SessionStoreError.
        """
        return partial(self._call, step, partial(self._run, text, hashlib.sha1(text.encode()).hexdigest()))

    def _all_keys(self) -> Iterator[list[bytes]]:
        """The keys of all sessions, in batches. SCAN may return a key twice."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "session:*"
        scan = self._client.scan_iter(match=pattern, count=_BATCH)
        while keys := self._call("scan", list, islice(scan, _BATCH)):
            yield keys

    def _key(self, session_id: str) -> str:
        # by the braces, the first characters of the id determine the cluster slot, see ids.py
        return f"{self._prefix}session:{{{slot_of(session_id)}}}{digest(session_id)}"

    def _index(self, name: str) -> str:
        return f"{self._prefix}user:{{{slot_of(name)}}}{name}"

    def _script(self, kind: str, name: str) -> Callable[..., Any]:
        text = kind + "".join((files(__package__) / f"{each}.lua").read_text() for each in ("life", name))
        return partial(self._run, text, hashlib.sha1(text.encode()).hexdigest())

    def _run(self, text: str, sha: str, keys: list[str], arguments: Sequence[str | int] = (), replicas: int = 0) -> Any:
        command = ("EVALSHA", sha, len(keys), *keys, *arguments)
        wait = {"replicas": replicas} if replicas else {}
        try:
            return self._execute(*command, **wait)
        except NoScriptError:  # Redis was restarted, or is another server after a failover
            self._load(text, keys)
            return self._execute(*command, **wait)

    def _load(self, text: str, keys: list[str]) -> None:
        """Load a script on the server that lacks it: another may be unavailable."""
        if not isinstance(self._client, RedisCluster):
            self._execute("SCRIPT", "LOAD", text)
        elif keys:
            self._client.execute_command("SCRIPT LOAD", text, target_nodes=self._client.get_node_from_key(keys[0]))
        else:
            self._client.script_load(text)

    def _call(self, step: str, command: Callable[..., Any], *arguments: Any) -> Any:
        if not self._breaker.admits():
            self.observer.refused()
            raise SessionStoreError
        started = time.perf_counter()
        try:
            reply = command(*arguments)
        except ResponseError as error:
            self._breaker.succeeded()
            # an invalid value concerns a single session, other errors concern the store
            if "WRONGTYPE" in str(error):
                raise ValueError("not a hash") from error
            if "would overflow" in str(error):
                raise ValueError("the sum has more than 64 bits: store the value yourself") from error
            if "hash value is not an integer" in str(error):
                raise TypeError("can't increment a value that isn't an integer") from error
            self.observer.failed("error_reply")
            raise _store_error(error) from error
        except (NoFreeConnection, NotAcknowledged) as error:  # the server answers
            kind = "not_acknowledged" if isinstance(error, NotAcknowledged) else "no_free_connection"
            self.observer.failed(kind)
            raise _store_error(error) from error
        except (RedisError, RedisClusterException) as error:
            self._breaker.failed()
            self.observer.failed("timeout" if isinstance(error, TimeoutError) else "connection")
            raise _store_error(error) from error
        finally:
            self.observer.took(step, time.perf_counter() - started)
        self._breaker.succeeded()
        return reply


def _store_error(error: Exception) -> SessionStoreError:
    _log.warning("session store: %s: %s", type(error).__name__, error)
    return SessionStoreError()


def _pairs(texts: Mapping[str, str]) -> list[str]:
    return [part for key, text in texts.items() for part in (_VALUE + key, text)]
