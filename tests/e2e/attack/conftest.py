"""A host on the cluster's network that does not belong to the cluster, and attacks it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lib.cluster import ROOT, Cluster


class Attacker:
    """A container with 16 addresses, so that limits for each client don't stop an attack."""

    def __init__(self, cluster: Cluster) -> None:
        self.name = f"{cluster.prefix}-attacker"
        self.victim = cluster.address[cluster.balancer]
        network = self.victim.rpartition(".")[0]
        self.sources = [f"{network}.{number}" for number in range(201, 217)]
        image = docker("inspect", "--format={{.Image}}", f"{cluster.prefix}-{cluster.balancer}")
        options = ["--rm", "--detach", f"--name={self.name}", f"--network={cluster.prefix}", "--cap-add=NET_ADMIN"]
        options += [f"--label=anynode.cluster={cluster.prefix}"]  # playbooks/destroy.yml removes it, too
        docker("run", *options, image, "sleep", "infinity")
        for source in self.sources:
            self.run(f"ip address add {source}/24 dev eth0")
        docker("cp", str(ROOT / "tests/lib/attack.py"), f"{self.name}:/attack.py")

    def run(self, command: str) -> str:
        """Run a shell command in the container; return its output."""
        return docker("exec", self.name, "sh", "-c", command)

    def attack(self, attack: str, sources: list[str] | None = None, **options: Any) -> Any:
        """Run an attack of tests/lib/attack.py, from all addresses or from `sources`; return its result."""
        done = self._start(attack, sources, options)
        printed, _ = done.communicate(timeout=300)
        return json.loads(printed.splitlines()[-1])

    def send(self, requests: list[str], sources: list[str] | None = None) -> list[list[tuple[int, str, str]]]:
        """Send raw requests; return status, header and body of the answers to each."""
        answers: list[list[tuple[int, str, str]]] = self.attack("send", sources, requests=requests)
        return answers

    @contextmanager
    def holding(self, **options: Any) -> Iterator[Callable[[], int]]:
        """Connect slow clients while the block runs; it gets a function that returns how many are connected."""
        process = self._start("hold", None, options)
        assert process.stdin and process.stdout
        process.stdout.readline()  # all are connected

        stdin, stdout = process.stdin, process.stdout

        def connected() -> int:
            stdin.write("\n")
            stdin.flush()
            return int(stdout.readline())

        try:
            yield connected
        finally:
            process.communicate(timeout=60)

    def _start(self, attack: str, sources: list[str] | None, options: dict[str, Any]) -> subprocess.Popen[str]:
        target = {"host": self.victim, "port": 443, "name": self.victim, "sources": sources or self.sources}
        command = ["docker", "exec", "--interactive", self.name, "python3", "/attack.py"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin
        process.stdin.write(json.dumps({"attack": attack, "target": target} | options) + "\n")
        process.stdin.flush()
        return process


def docker(*arguments: str) -> str:
    """Run docker; return its output."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Not for the whole session: runs of site.yml in other tests would remove the container, which no inventory lists.
@pytest.fixture(scope="module")
def attacker(cluster: Cluster) -> Iterator[Attacker]:
    """The attacking host, until the end of a file."""
    attacker = Attacker(cluster)
    yield attacker
    docker("rm", "--force", attacker.name)
