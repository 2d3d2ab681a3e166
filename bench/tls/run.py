"""Measures both hops, plain and with TLS, and prints the tables that docs/reference/bench-tls.md speaks of.

An operation is measured plain and with TLS in random order, so that other activity of the host affects both alike.
"""

import os
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flask_shared_session import redis_client
from lib.ansible_runs import render
from lib.certificates import Authority

from bench.host import CORES, OTHER_CORES, describe, pinning, spread
from bench.tls.hops import TIMEOUT_SECONDS, Operation, start_redis, to_app, to_redis

# Variables of the roles: a single worker, no metrics server, no limits. Connecting includes the TLS handshake, which
# waits until gunicorn has started, or has a free thread.
VARIABLES: dict[str, Any] = {
    "app_workers": 1,
    "app_metrics_port": 0,
    "nginx_connect_timeout": "30s",
    "nginx_keepalive_timeout": "1h",
    "nginx_requests_per_second": 1_000_000,
    "nginx_requests_burst": 1_000_000,
}


def main(rounds: int, seconds: float) -> None:
    """Measure and print. seconds: of each measurement; a round has twelve measurements."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        stack.enter_context(patch.object(redis_client, "TIMEOUT_SECONDS", TIMEOUT_SECONDS))
        stack.enter_context(pinning(CORES))
        os.sched_setaffinity(0, OTHER_CORES)  # inherited by the started servers
        folder = Path(directory)
        authority = Authority(folder)
        servers = start_redis(stack, folder, authority)
        hops = {
            "session layer to Redis": to_redis(servers, authority),
            "nginx to gunicorn": to_app(stack, folder, render(folder, 1, **VARIABLES), servers[1], authority),
        }
        for number in range(rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr)
            for operations in hops.values():
                for pair in operations.values():
                    for operation in random.sample(pair, 2):
                        operation.measure(seconds)
    versions = describe("gunicorn", "flask", "redis", "hiredis")
    print(f"{versions}. Load average: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.\n")
    print(f"Medians of {rounds} rounds, with interquartile ranges; ratios compare TLS with plain in the same round.")
    for title, operations in hops.items():
        print(f"\n{table(title, operations)}")


def table(title: str, operations: dict[str, list[Operation]]) -> str:
    """Return a Markdown table with a line for each operation. operations: plain and TLS by name."""
    lines = [
        f"| {title} | µs, plain | µs, TLS | ratio | CPU µs of both ends, plain | CPU µs, TLS | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, pair in operations.items():
        columns = []
        # the first result of each is a warm-up
        for plain, tls in zip(*(zip(*operation.results[1:], strict=True) for operation in pair), strict=True):
            ratios = [with_tls / without for without, with_tls in zip(plain, tls, strict=True)]
            columns += [spread(plain), spread(tls), spread(ratios, 2)]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(int(os.environ.get("ROUNDS", "12")), float(os.environ.get("SECONDS_EACH", "0.6")))
