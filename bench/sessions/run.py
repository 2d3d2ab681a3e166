"""Measures session layers side by side and prints the table that docs/bench-sessions.md shows.

A round loads each route under each layer once, in random order: whatever else the machine does hits all alike.
"""

import os
import platform
import random
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from layers import LAYERS
from services import METHODS, Services

ROUNDS = int(os.environ.get("ROUNDS", "16"))
NAMES = {
    "none": "none",
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
        del rounds[0]  # warmed up
    print(f"{machine()}. Load average before: {load_before:.1f}.")
    print(f"Median and, in brackets, interquartile range of {ROUNDS} rounds; ratios are of one round's requests/s.")
    for route in METHODS:
        print(f"\n{table(route, rounds)}")


def table(route: str, rounds: list[dict]) -> str:
    """Markdown: a line for each layer."""
    lines = [
        f"| `{METHODS[route]} {route}` | requests/s | of no session | of Flask-Session | CPU µs/request | Redis's |",
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


def spread(values: list[float], digits: int = 0) -> str:
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine() -> str:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":unknown")
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    redis, nginx = (
        subprocess.run(command, capture_output=True, text=True, check=True)
        for command in (["redis-server", "--version"], ["/usr/sbin/nginx", "-v"])
    )
    programs = [f"Python {platform.python_version()}", f"Redis {redis.stdout.split()[2].removeprefix('v=')}"]
    programs += [nginx.stderr.split(":")[1].strip().replace("/", " ")]
    programs += [f"{name} {version(name)}" for name in ("gunicorn", "flask", "redis", "hiredis", "flask-session")]
    return f"{date.today()}, {os.cpu_count()} cores, {model.partition(':')[2].strip()}, {system}, {', '.join(programs)}"


if __name__ == "__main__":
    main()
