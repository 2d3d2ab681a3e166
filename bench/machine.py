"""What the measurements share: the cores that each side has, CPU time of other processes, spreads, what ran them."""

import os
import platform
import subprocess
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

# gunicorn has the last core, all that feeds it the others: less spread than if the kernel moves them about
CORES = sorted(os.sched_getaffinity(0))
GUNICORN_CORES, OTHER_CORES = CORES[-1:], CORES[:-1] or CORES


def pinned(command: list, cores: list[int]) -> list[str]:
    """The command, so that it runs on these cores only."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *map(str, command)]


def cpu_seconds(process: int) -> float:
    """What all threads of a process have used so far."""
    # the number of a process's CPU clock, as clock_getcpuclockid(3) makes it
    return time.clock_gettime(~process << 3 | 2)


def spread(values: list[float], digits: int = 0) -> str:
    """The median, and the interquartile range."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def describe(*packages: str) -> str:
    """Date, machine and versions, those of Python packages too."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2] for line in cpu.splitlines() if line.startswith("model name")), "unknown CPU")
    kind = "virtual machine" if "hypervisor" in cpu else "machine"
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
    programs = [f"Python {platform.python_version()}", f"Redis {redis.split()[2].removeprefix('v=')}"]
    programs += [nginx.split()[-1].replace("/", " ")]
    programs += [f"{name} {version(name)}" for name in packages]
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{date.today()}, {kind}, {os.cpu_count()} cores ({model.strip()}), {system}, {', '.join(programs)}"
