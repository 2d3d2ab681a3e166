"""Measures session layers side by side and prints the table that docs/reference/benchmarks.md shows.

A round loads each route with each layer once, in random order, so that other activity of the host affects all alike.
"""

import os
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from layers import LAYERS
from services import METHODS, Services

from bench.host import describe, spread

ROUNDS = int(os.environ.get("ROUNDS", "14"))
PACKAGES = "gunicorn", "flask", "redis", "hiredis", "flask-session"
NAMES = {
    "none": "none",
    "one_get": "none, but a `GET` by redis-py",
    "anynode": "Anynode",
    "flask_session": "Flask-Session, its defaults",
    "signed_cookie": "Flask's signed cookie",
}


def main() -> None:
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        services = Services(stack, Path(folder))
        for layer in LAYERS:
            services.log_in(layer)
        rounds = []
        for number in range(ROUNDS + 1):
            print(f"round {number} of {ROUNDS}", file=sys.stderr)
            cells = [(layer, route) for route in METHODS for layer in random.sample([*LAYERS], len(LAYERS))]
            rounds.append({cell: services.measure(*cell) for cell in cells})
        del rounds[0]  # warm-up
    print(f"{describe(*PACKAGES)}. Load average: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.\n")
    print(f"Medians of {ROUNDS} rounds, with interquartile ranges; ratios compare requests/s of the same round.")
    for route in METHODS:
        print(f"\n{table(route, rounds)}")


def table(route: str, rounds: list[dict[tuple[str, str], Any]]) -> str:
    """Return a Markdown table of a route with a line for each layer. rounds: results by layer and route."""
    lines = [
        f"| `{METHODS[route]} {route}` | requests/s | vs. no session | vs. Flask-Session | CPU µs/request | Redis |",
        "|---|---|---|---|---|---|",
    ]
    for layer in LAYERS:
        found = [each[layer, route] for each in rounds]
        speeds, cpu, redis = zip(*found, strict=True)
        ratios = (
            [each[layer, route][0] / each[other, route][0] for each in rounds] for other in ("none", "flask_session")
        )
        columns = [spread(speeds), *(spread(each, 2) for each in ratios), spread(cpu), spread(redis)]
        lines.append(f"| {NAMES[layer]} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
