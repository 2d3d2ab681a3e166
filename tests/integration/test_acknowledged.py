"""No acknowledged login is lost, and no acknowledged logout undone, when the primary dies before its replicas have all.

A ledger has each login and logout that was acknowledged, and is checked against the new primary.
"""

import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from flask_shared_session import RedisStore, Session, SessionStoreError
from flask_shared_session.redis_client import client_of
from flask_shared_session.settings import RedisURL
from lib.redis_server import PREFIX, REDIS_PASSWORD, RedisServer, default_server
from lib.sentinels import SERVICE, replicated, sentinels

SENTINEL = "down-after-milliseconds 1000\nfailover-timeout 5000"
THREADS = 3
BEHIND_SECONDS = 0.6  # that the replicas lack when the primary dies


class Ledger:
    """Clients that log in and out all the time, and what was acknowledged to them."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.living: list[str] = []
        self.ended: list[str] = []
        self.unknown: list[str] = []  # logouts without an acknowledgement: they may have happened
        self.acknowledged = 0.0  # time of the last acknowledgement
        self.longest_pause = 0.0
        self.lost = self.undone = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]

    def __enter__(self) -> "Ledger":
        self.acknowledged = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        mine: list[str] = []
        for login in count():
            if self._stopping.is_set():
                return
            session = Session(self.store, None)
            session.log_in(f"user{number}-{login}")
            try:
                session.save()
            except SessionStoreError:
                time.sleep(0.01)
                continue
            assert session.new_id
            mine.append(session.new_id)
            self._record(self.living, session.new_id)
            if login % 3 == 0:
                self._log_out(mine.pop(len(mine) // 2))

    def _log_out(self, session_id: str) -> None:
        try:
            Session(self.store, session_id).end()
        except SessionStoreError:
            self.unknown.append(session_id)
        else:
            self._record(self.ended, session_id)

    def _record(self, book: list[str], session_id: str) -> None:
        now = time.monotonic()
        with self._lock:
            self.longest_pause = max(self.longest_pause, now - self.acknowledged)
            self.acknowledged = now
            book.append(session_id)

    def check(self) -> None:
        """Count the acknowledged logins that were lost, and the acknowledged logouts that were undone."""
        gone = {*self.ended, *self.unknown}
        self.lost = sum(self.store.read(each) is None for each in self.living if each not in gone)
        self.undone = sum(self.store.read(each) is not None for each in self.ended)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """A primary and two replicas, without which it accepts writes all the same."""
    with replicated(tmp_path, default_server()) as started:
        yield started


def kill_while_the_replicas_are_behind(primary: RedisServer, replicas: list[RedisServer]) -> None:
    for replica in replicas:
        replica.pause()
    primary.admin.client_kill_filter(_type="replica")  # so the kernel keeps nothing for them either
    time.sleep(BEHIND_SECONDS)
    primary.kill()
    for replica in replicas:
        replica.resume()


def run(servers: list[RedisServer], folder: Path, acknowledge: int) -> Ledger:
    """Kill the primary, and go on until the new primary has served for a while."""
    primary, *replicas = servers
    with sentinels(folder, default_server(), primary.port, 3, SENTINEL) as clients:
        ports = ",".join(f"127.0.0.1:{each.get_connection_kwargs()['port']}" for each in clients)
        client = client_of(RedisURL.parse(f"redis+sentinel://app:{REDIS_PASSWORD}@{ports}/{SERVICE}"))
        store = RedisStore(client, prefix=PREFIX, idle=600, lifetime=600, per_user=10**6, acknowledge=acknowledge)
        with Ledger(store) as ledger:
            time.sleep(1)
            kill_while_the_replicas_are_behind(primary, replicas)
            ended = time.monotonic()
            while ledger.acknowledged < ended + 0.5:
                assert time.monotonic() < ended + 20
                time.sleep(0.05)
            time.sleep(0.5)
        assert len(ledger.living) > 100
        assert len(ledger.ended) > 20
        ledger.check()
        print(f"acknowledged again after {ledger.longest_pause:.1f} s")
        return ledger


def test_nothing_acknowledged_is_lost(servers: list[RedisServer], tmp_path: Path) -> None:
    ledger = run(servers, tmp_path, acknowledge=1)
    assert (ledger.lost, ledger.undone) == (0, 0)


def test_control_without_waiting_for_a_replica_both_happens(servers: list[RedisServer], tmp_path: Path) -> None:
    ledger = run(servers, tmp_path, acknowledge=0)
    assert ledger.lost > 0
    assert ledger.undone > 0
