"""Measures both hops, plain and with TLS, and prints the tables that docs/reference/bench-tls.md speaks of.

Both ways of an operation are measured one after the other, in random order: whatever else the machine does hits both
alike.
"""

import os
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from anynode import redis_client
from lib.ansible_runs import render
from lib.certificates import Authority

from bench.machine import CORES, OTHER_CORES, describe, spread
from bench.tls.hops import TIMEOUT_SECONDS, Way, start_redis, to_app, to_redis

# What the roles are told for this: one worker, no port for its metrics, and no limit that is in the way. Visitors wait
# for their turn; a handshake counts as connecting, and waits until gunicorn has started, or has a thread for it.
VARIABLES = {
    "app_workers": 1,
    "app_metrics_port": 0,
    "nginx_connect_timeout": "30s",
    "nginx_keepalive_timeout": "1h",
    "nginx_requests_per_second": 1_000_000,
    "nginx_requests_burst": 1_000_000,
}


def main(rounds: int, seconds: float) -> None:
    """seconds: of each measurement; a round has twelve."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        stack.enter_context(patch.object(redis_client, "TIMEOUT_SECONDS", TIMEOUT_SECONDS))
        stack.callback(os.sched_setaffinity, 0, CORES)
        os.sched_setaffinity(0, OTHER_CORES)  # for what is started, too
        folder = Path(directory)
        authority = Authority(folder)
        servers = start_redis(stack, folder, authority)
        hops = {
            "session layer to Redis": to_redis(servers, authority),
            "nginx to gunicorn": to_app(stack, folder, render(folder, 1, **VARIABLES), servers[1], authority),
        }
        for number in range(rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr)
            for ways in hops.values():
                for pair in ways.values():
                    for way in random.sample(pair, 2):
                        way.measure(seconds)
    versions = describe("gunicorn", "flask", "redis", "hiredis")
    print(f"{versions}. Load average: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.\n")
    print(f"Medians of {rounds} rounds, and their interquartile ranges; a ratio is that of TLS to plain in one round.")
    for title, ways in hops.items():
        print(f"\n{table(title, ways)}")


def table(title: str, ways: dict[str, list[Way]]) -> str:
    """Markdown: a line for each operation."""
    lines = [
        f"| {title} | µs, plain | µs, TLS | ratio | CPU µs of both ends, plain | CPU µs, TLS | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, pair in ways.items():
        columns = []
        for plain, tls in zip(*(zip(*way.found[1:], strict=True) for way in pair), strict=True):  # warmed up before
            ratios = [with_tls / without for without, with_tls in zip(plain, tls, strict=True)]
            columns += [spread(plain), spread(tls), spread(ratios, 2)]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(int(os.environ.get("ROUNDS", "12")), float(os.environ.get("SECONDS_EACH", "0.6")))
