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

ROUNDS = int(os.environ.get("ROUNDS", "14"))
NAMES = {
    "none": "none",
    "one_get": "none, but one `GET` by redis-py",
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
    print(f"{machine()}. Load average: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.\n")
    print(f"Medians of {ROUNDS} rounds, and their interquartile ranges; a ratio is that of requests/s in one round.")
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
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2] for line in cpu.splitlines() if line.startswith("model name")), "unknown CPU")
    kind = "virtual machine" if "hypervisor" in cpu else "machine"
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
    programs = [f"Python {platform.python_version()}", f"Redis {redis.split()[2].removeprefix('v=')}"]
    programs += [nginx.split()[-1].replace("/", " ")]
    programs += [f"{name} {version(name)}" for name in ("gunicorn", "flask", "redis", "hiredis", "flask-session")]
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{date.today()}, {kind}, {os.cpu_count()} cores ({model.strip()}), {system}, {', '.join(programs)}"


if __name__ == "__main__":
    main()
