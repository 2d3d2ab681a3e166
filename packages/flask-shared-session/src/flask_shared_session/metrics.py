"""Prometheus metrics of sessions. The only module here that needs prometheus-client."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from .observer import Observer

_PREFIX = "anynode_sessions_"
_FOUND = {True: "found", False: "none", None: "unavailable"}
_CAUSES = (
    "logout",
    "user",
    "others",
    "all",
    "account_removed",
    "admin",
    "cap",
    "replaced",
    "unreadable",
)
_KINDS = ("timeout", "connection", "error_reply", "newer_format", "no_free_connection", "not_acknowledged")
_STEPS = ("read", "create", "update", "increment", "delete", "list", "end_user")
# seconds: from a fast reply of Redis to the longest time that a user may have to wait, see redis_client.py
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class SessionMetrics(Observer):
    """An observer that counts. Create an instance per process and pass it to the store.

    With several processes, set PROMETHEUS_MULTIPROC_DIR before prometheus_client is imported.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY):
        """registry: of the metrics. Raises ValueError if it already has them."""

        def counter(name: str, text: str, label: str = "", values: tuple[str, ...] = ()) -> Counter:
            created = Counter(_PREFIX + name, text, [label] if label else [], registry=registry)
            for value in values:  # create all series now: rate() ignores the first value of a series
                created.labels(value)
            return created

        requests = counter(
            "requests_total",
            "Requests that used the session, by result: found, none, or store unavailable.",
            "session",
            tuple(_FOUND.values()),
        )
        self._used = {found: requests.labels(name) for found, name in _FOUND.items()}  # bound once: on the hot path
        self._rejected = counter("rejected_ids_total", "Cookies without a valid session id; the store wasn't queried.")
        self._unknown = counter(
            "unknown_ids_total",
            "Well-formed ids that aren't in the store: expired, ended, replaced, lost or invented."
            " The store keeps no data that could distinguish these.",
        )
        self._logins = counter("logins_total", "Logins.")
        self._rotations = counter("rotations_total", "Sessions that got a new id by rotate(), without logins.")
        self._ended = counter(
            "ended_total",
            "Deleted sessions by cause. Expired sessions aren't included: Redis deletes them.",
            "cause",
            _CAUSES,
        )
        self._conflicts = counter("conflicts_total", "Writes refused because the session had ended meanwhile.")
        self._errors = counter("store_errors_total", "Failed steps of the store.", "kind", _KINDS)
        self._refusals = counter("store_refusals_total", "Steps refused because the circuit breaker was open.")
        self._seconds = Histogram(
            _PREFIX + "store_seconds",
            "Time per step of the store, including failed steps.",
            ["step"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._took = {step: self._seconds.labels(step) for step in _STEPS}

    def used(self, found: bool | None) -> None:
        self._used[found].inc()

    def rejected(self) -> None:
        self._rejected.inc()

    def unknown(self) -> None:
        self._unknown.inc()

    def logged_in(self) -> None:
        self._logins.inc()

    def rotated(self) -> None:
        self._rotations.inc()

    def ended(self, cause: str, number: int = 1) -> None:
        self._ended.labels(cause).inc(number)

    def conflicted(self) -> None:
        self._conflicts.inc()

    def took(self, step: str, seconds: float) -> None:
        histogram = self._took.get(step) or self._seconds.labels(step)
        histogram.observe(seconds)

    def failed(self, kind: str) -> None:
        self._errors.labels(kind).inc()

    def refused(self) -> None:
        self._refusals.inc()
