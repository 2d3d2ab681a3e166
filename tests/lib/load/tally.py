"""Counts the results of requests, in total and per second."""

import time
from array import array
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any

EXAMPLES = 10  # of failures, kept in full
FINDINGS = 1000  # lost sessions and writes that are stored with their times


class Tally:
    """All durations are in seconds."""

    def __init__(self) -> None:
        self.start()
        self.requests = self.failed = 0
        self.doubled_writes = self.unacknowledged_but_kept = 0
        self.own_lag = 0.0
        self._requests_of = dict.fromkeys(("GET", "POST", "login"), 0)
        self._failures_of: dict[str, Counter[str]] = {method: Counter() for method in self._requests_of}
        self._by_node: Counter[str] = Counter()
        self._by_release: Counter[str] = Counter()
        self._waits = array("d")  # of successful requests
        self._worst: dict[str, Any] = {"seconds": 0.0, "at": 0.0, "method": None}
        self._worst_of_good = self._worst
        self._gap, self._last_good = {"seconds": 0.0, "at": 0.0}, 0.0
        self._lost_writes = self._lost_sessions = 0
        self._lost_writes_found: list[dict[str, float]] = []
        self._lost_sessions_found: list[dict[str, float]] = []
        self._examples: list[dict[str, Any]] = []
        self._rows: dict[int, _Row] = {}

    def start(self) -> None:
        """The load starts now; values named `at` count from here."""
        self._began, self._began_at = time.monotonic(), time.time()

    def add(self, method: str, failure: str | None, started: float, headers: Mapping[str, str]) -> None:
        """Count a request that ended now. started: by time.monotonic(). failure: its name, None for a success."""
        now = time.monotonic() - self._began
        sent_at, wait = started - self._began, now - (started - self._began)
        node = headers.get("X-Node", "none")
        self.requests += 1
        self._requests_of[method] += 1
        self._by_node[node] += 1
        self._by_release[headers.get("X-Release", "none")] += 1
        waited = {"seconds": wait, "at": sent_at, "method": method}
        self._worst = max(self._worst, waited, key=_seconds)
        row = self._rows.setdefault(int(sent_at), _Row())
        row.requests += 1
        row.worst_wait = max(row.worst_wait, wait)
        row.nodes[node] += 1
        if failure is None:
            self._waits.append(wait)
            self._worst_of_good = max(self._worst_of_good, waited, key=_seconds)
            self._gap = max(self._gap, {"seconds": now - self._last_good, "at": self._last_good}, key=_seconds)
            self._last_good = now
        else:
            self.failed += 1
            row.errors += 1
            self._failures_of[method][failure] += 1
            if len(self._examples) < EXAMPLES:
                example = {"at": sent_at, "method": method, "failure": failure, "seconds": wait, "node": node}
                self._examples.append(example | {"request_id": headers.get("X-Request-ID")})

    def lost_session(self, logged_in: float) -> None:
        """Count a lost session. logged_in: its start by time.time()."""
        self._lost_sessions += 1
        if self._lost_sessions <= FINDINGS:
            self._lost_sessions_found.append({"logged_in": logged_in, "seen": time.time()})

    def lost_writes(self, writes: int, acknowledged: float) -> None:
        """Count lost writes. acknowledged: time of the oldest acknowledgement, by time.time()."""
        self._lost_writes += writes
        if len(self._lost_writes_found) < FINDINGS:
            self._lost_writes_found.append({"writes": writes, "acknowledged": acknowledged, "seen": time.time()})

    def progress(self) -> str:
        """A line with the results so far."""
        seconds = time.monotonic() - self._began
        worst = self._worst["seconds"]
        return f"load: {seconds:.0f} s, {self.requests} requests, {self.failed} failed, worst wait {worst:.3f} s"

    def result(self) -> dict[str, Any]:
        """All results except the timeline. Keys named `at`: seconds since the start; other times: epoch."""
        seconds = time.monotonic() - self._began
        waits = sorted(self._waits)
        gap = max(self._gap, {"seconds": seconds - self._last_good, "at": self._last_good}, key=_seconds)
        return {
            "began": datetime.fromtimestamp(self._began_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": seconds,
            "requests": self.requests,
            "failed": self.failed,
            "failures": dict(sum(self._failures_of.values(), Counter[str]())),
            "by_method": {
                method: {"requests": requests, "failures": dict(self._failures_of[method])}
                for method, requests in self._requests_of.items()
            },
            "by_node": dict(sorted(self._by_node.items())),
            "by_release": dict(sorted(self._by_release.items())),
            "wait": {
                "p50": _percentile(waits, 0.5),
                "p99": _percentile(waits, 0.99),
                "worst": self._worst_of_good,
                "worst_of_all": self._worst,
            },
            "longest_without_success": gap,
            "sessions_lost": self._lost_sessions,
            "sessions_lost_found": self._lost_sessions_found,
            "lost_writes": self._lost_writes,
            "lost_writes_found": self._lost_writes_found,
            "doubled_writes": self.doubled_writes,
            "unacknowledged_but_kept": self.unacknowledged_but_kept,
            "own_lag": self.own_lag,
            "first_failures": self._examples,
        }

    def timeline(self) -> list[dict[str, Any]]:
        """A row for each second since the start, with the requests that were sent in it. time: epoch."""
        rows = []
        for second in range(max(self._rows, default=-1) + 1):
            row = self._rows.get(second) or _Row()
            counts = {"time": round(self._began_at + second, 3), "requests": row.requests, "errors": row.errors}
            rows.append(counts | {"worst_wait": round(row.worst_wait, 4), "nodes": dict(row.nodes)})
        return rows


class _Row:
    """The requests that were sent in a second."""

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.worst_wait = 0.0
        self.nodes: Counter[str] = Counter()


def _seconds(each: Mapping[str, Any]) -> float:
    return float(each["seconds"])


def _percentile(ordered: list[float], share: float) -> float | None:
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None
