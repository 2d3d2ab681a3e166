"""500 clients that take their time, at once: nobody else waits for them."""

import time

import pytest
from lib.cluster import eventually

COUNT = 500


@pytest.mark.parametrize("kind", ["header", "body", "read"])
def test_slow_clients_keep_nobody_waiting(cluster, attacker, kind):
    """A header that never ends, a body that comes by the byte, an answer that isn't read: others get theirs in 1 s."""
    visitor = cluster.log_in(cluster.balancer)
    with attacker.holding(kind=kind, count=COUNT) as connected:
        assert connected() == COUNT
        for path in ["/", "/api/session", "/static/style.css", "/readyz"] * 5:
            began = time.monotonic()
            assert visitor.get(cluster.balancer, path).status_code == 200
            assert time.monotonic() - began < 1, path
        assert visitor.post(cluster.balancer, "/api/counter").json()["counter"] == 1
        assert connected() == COUNT


def test_a_header_that_never_ends_is_cut_off(cluster, attacker):
    """However diligently something comes: it must be whole within nginx_client_timeout."""
    with attacker.holding(kind="header", count=COUNT) as connected:
        assert connected() == COUNT
        assert eventually(lambda: connected() == 0, seconds=25)
