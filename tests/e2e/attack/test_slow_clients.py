"""500 slow clients at once delay no other client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from lib.cluster import Cluster, eventually

if TYPE_CHECKING:
    from .conftest import Attacker

COUNT = 500


@pytest.mark.parametrize("kind", ["header", "body", "read"])
def test_slow_clients_delay_no_other_client(cluster: Cluster, attacker: Attacker, kind: str) -> None:
    """A header that never ends, a body of a byte a second, an answer that isn't read: others get answers in 1 s.

    A header must be complete within nginx_client_timeout, so these clients are disconnected then.
    """
    client = cluster.log_in(cluster.balancer)
    with attacker.holding(kind=kind, count=COUNT) as connected:
        assert connected() == COUNT
        for path in ["/", "/api/session", "/static/style.css", "/readyz"] * 5:
            began = time.monotonic()
            assert client.get(cluster.balancer, path).status_code == 200
            assert time.monotonic() - began < 1, path
        assert client.post(cluster.balancer, "/api/counter").json()["counter"] == 1
        assert connected() == COUNT
        if kind == "header":
            assert eventually(lambda: connected() == 0, seconds=25)
