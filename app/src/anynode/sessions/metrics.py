"""Counts what happens to sessions, for Prometheus. Needs prometheus-client; nothing else here does."""

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
_KINDS = ("timeout", "connection", "error_reply", "newer_format")
_STEPS = ("read", "create", "update", "increment", "delete", "list", "end_user")
# From what Redis needs next door to what a visitor may have to wait for, see redis_client.py.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class SessionMetrics(Observer):
    """Make one per process, and give it to the store.

    With several processes set PROMETHEUS_MULTIPROC_DIR before anything imports prometheus_client.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY):
        """registry: where the metrics are registered. ValueError if they are already."""

        def counter(name: str, text: str, label: str = "", values: tuple[str, ...] = ()) -> Counter:
            made = Counter(_PREFIX + name, text, [label] if label else [], registry=registry)
            for value in values:  # from the start: rate() doesn't see what a series begins with
                made.labels(value)
            return made

        requests = counter(
            "requests_total",
            "Requests that used the session: it was found, there was none, or the store was unavailable.",
            "session",
            tuple(_FOUND.values()),
        )
        self._used = {found: requests.labels(name) for found, name in _FOUND.items()}  # bound once: on the hot path
        self._rejected = counter("rejected_ids_total", "Cookies that can't be a session id; the store wasn't asked.")
        self._unknown = counter(
            "unknown_ids_total",
            "Well-formed ids that the store doesn't know: idled out, lifetime over, ended, replaced, lost or made up."
            " It keeps nothing by which to tell these apart.",
        )
        self._logins = counter("logins_total", "Sessions that became a user's.")
        self._rotations = counter("rotations_total", "Sessions that got a new id by rotate(); logins not counted.")
        self._ended = counter(
            "ended_total",
            "Sessions deleted, by cause. Those that idled out or reached their lifetime are not in it:"
            " Redis drops them by itself.",
            "cause",
            _CAUSES,
        )
        self._conflicts = counter("conflicts_total", "Writes refused because the session had ended meanwhile.")
        self._errors = counter("store_errors_total", "Steps that the store couldn't do.", "kind", _KINDS)
        self._refusals = counter("store_refusals_total", "Steps not tried because the circuit breaker was open.")
        self._seconds = Histogram(
            _PREFIX + "store_seconds",
            "Time per step of the store, failed ones too.",
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
