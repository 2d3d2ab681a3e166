"""Counts what visitors met, in all and by the second."""

import time
from array import array
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil

EXAMPLES = 10  # of failures, kept in full
FINDINGS = 1000  # lost sessions and writes, kept with their times


class Tally:
    """All times are seconds."""

    def __init__(self):
        self.begin()
        self.requests = self.failed = 0
        self.doubled_writes = self.unacknowledged_but_kept = 0
        self.own_lag = 0.0
        self._by_method = {method: [0, Counter()] for method in ("GET", "POST", "login")}
        self._by_node, self._by_release = Counter(), Counter()
        self._waits = array("d")  # of good answers
        self._worst = self._worst_of_good = {"seconds": 0.0, "at": 0.0, "method": None}
        self._gap, self._last_good = {"seconds": 0.0, "at": 0.0}, 0.0
        self._lost_writes, self._lost_writes_found = 0, []
        self._lost_sessions, self._lost_sessions_found = 0, []
        self._examples, self._rows = [], {}

    def begin(self) -> None:
        """The load begins now, what is said to be `at` a time is counted from here."""
        self._began, self._began_at = time.monotonic(), time.time()

    def add(self, method: str, failure: str | None, began: float, headers: Mapping[str, str]) -> None:
        """One request that ended now. began: by time.monotonic(). failure: its name, None if there is none."""
        now = time.monotonic() - self._began
        sent_at, wait = began - self._began, now - (began - self._began)
        node = headers.get("X-Node", "none")
        self.requests += 1
        self._by_method[method][0] += 1
        self._by_node[node] += 1
        self._by_release[headers.get("X-Release", "none")] += 1
        waited = {"seconds": wait, "at": sent_at, "method": method}
        self._worst = max(self._worst, waited, key=_seconds)
        row = self._rows.setdefault(int(sent_at), [0, 0, 0.0, Counter()])
        row[0] += 1
        row[2] = max(row[2], wait)
        row[3][node] += 1
        if failure is None:
            self._waits.append(wait)
            self._worst_of_good = max(self._worst_of_good, waited, key=_seconds)
            self._gap = max(self._gap, {"seconds": now - self._last_good, "at": self._last_good}, key=_seconds)
            self._last_good = now
        else:
            self.failed += 1
            row[1] += 1
            self._by_method[method][1][failure] += 1
            if len(self._examples) < EXAMPLES:
                example = {"at": sent_at, "method": method, "failure": failure, "seconds": wait, "node": node}
                self._examples.append(example | {"request_id": headers.get("X-Request-ID")})

    def lost_session(self, logged_in: float) -> None:
        """logged_in: when, by time.time()."""
        self._lost_sessions += 1
        if self._lost_sessions <= FINDINGS:
            self._lost_sessions_found.append({"logged_in": logged_in, "seen": time.time()})

    def lost_writes(self, writes: int, acknowledged: float) -> None:
        """acknowledged: when the oldest of them was, by time.time()."""
        self._lost_writes += writes
        if len(self._lost_writes_found) < FINDINGS:
            self._lost_writes_found.append({"writes": writes, "acknowledged": acknowledged, "seen": time.time()})

    def progress(self) -> str:
        """A line of what is there so far."""
        seconds = time.monotonic() - self._began
        worst = self._worst["seconds"]
        return f"load: {seconds:.0f} s, {self.requests} requests, {self.failed} failed, worst wait {worst:.3f} s"

    def result(self) -> dict:
        """All but the timeline. Keys named `at`: seconds from the beginning; `logged_in` and the like: epoch."""
        seconds = time.monotonic() - self._began
        waits = sorted(self._waits)
        gap = max(self._gap, {"seconds": seconds - self._last_good, "at": self._last_good}, key=_seconds)
        return {
            "began": datetime.fromtimestamp(self._began_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": seconds,
            "requests": self.requests,
            "failed": self.failed,
            "failures": dict(sum((failures for _, failures in self._by_method.values()), Counter())),
            "by_method": {
                method: {"requests": requests, "failures": dict(failures)}
                for method, (requests, failures) in self._by_method.items()
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

    def timeline(self) -> list[dict]:
        """A row for each second from the beginning, of the requests that were sent in it. time: epoch."""
        rows = []
        for second in range(max(self._rows, default=-1) + 1):
            requests, errors, worst_wait, nodes = self._rows.get(second, (0, 0, 0.0, {}))
            row = {"time": round(self._began_at + second, 3), "requests": requests, "errors": errors}
            rows.append(row | {"worst_wait": round(worst_wait, 4), "nodes": dict(nodes)})
        return rows


def _seconds(each: dict) -> float:
    return each["seconds"]


def _percentile(ordered: list[float], share: float) -> float | None:
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None
