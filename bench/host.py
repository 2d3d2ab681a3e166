"""Common functions of the benchmarks: pinning to cores, CPU time of processes, spreads, description of the host."""

import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

# gunicorn runs on the last core, everything else on the others: less spread than if the kernel moves processes
CORES = sorted(os.sched_getaffinity(0))
GUNICORN_CORES, OTHER_CORES = CORES[-1:], CORES[:-1] or CORES


def pinned(command: Sequence[Any], cores: list[int]) -> list[str]:
    """Return the command, wrapped to run on these cores only."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *map(str, command)]


@contextmanager
def pinning(cores: list[int]) -> Iterator[None]:
    """Run this process, and the processes that it starts in the block, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(process: int) -> float:
    """Return the CPU seconds of all threads of a process. process: its id."""
    # the number of a process's CPU clock, computed like clock_getcpuclockid(3)
    return time.clock_gettime(~process << 3 | 2)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median and the interquartile range as text. digits: after the decimal point."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else [*values] * 3
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def describe(*packages: str) -> str:
    """Return date, host and versions as text. packages: names of Python packages."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2] for line in cpu.splitlines() if line.startswith("model name")), "unknown CPU")
    kind = "virtual machine" if "hypervisor" in cpu else "physical host"
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
    programs = [f"Python {platform.python_version()}", f"Redis {redis.split()[2].removeprefix('v=')}"]
    programs += [nginx.split()[-1].replace("/", " ")]
    programs += [f"{name} {version(name)}" for name in packages]
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{date.today()}, {kind}, {os.cpu_count()} cores ({model.strip()}), {system}, {', '.join(programs)}"
