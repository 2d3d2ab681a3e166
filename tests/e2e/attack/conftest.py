"""Fixtures: a machine beside the cluster that is no member of it, and from which it is attacked."""

import json
import subprocess
from contextlib import contextmanager

import pytest
from lib.cluster import ROOT, cluster

__all__ = ["cluster"]


class Attacker:
    """A container on the cluster's network, with 16 addresses: what one client may take is not what is tried here."""

    def __init__(self, cluster):
        self.name = f"{cluster.prefix}-attacker"
        self.victim = cluster.address[cluster.balancer]
        network = self.victim.rpartition(".")[0]
        self.sources = [f"{network}.{number}" for number in range(201, 217)]
        image = docker("inspect", "--format={{.Image}}", f"{cluster.prefix}-{cluster.balancer}")
        options = ["--rm", "--detach", f"--name={self.name}", f"--network={cluster.prefix}", "--cap-add=NET_ADMIN"]
        options += [f"--label=anynode.cluster={cluster.prefix}"]  # what is left of it goes with the machines
        docker("run", *options, image, "sleep", "infinity")
        for source in self.sources:
            self.run(f"ip address add {source}/24 dev eth0")
        docker("cp", str(ROOT / "tests/lib/attack.py"), f"{self.name}:/attack.py")

    def run(self, command):
        """Run a shell command on it; return what it printed."""
        return docker("exec", self.name, "sh", "-c", command)

    def attack(self, attack, sources=None, **options):
        """Do what tests/lib/attack.py offers, from all addresses or from some; return its result."""
        done = self._start(attack, sources, options)
        printed, _ = done.communicate(timeout=300)
        return json.loads(printed.splitlines()[-1])

    @contextmanager
    def holding(self, **options):
        """Slow clients while the block runs. It gets a function that asks how many are connected now."""
        process = self._start("hold", None, options)
        process.stdout.readline()  # all have come

        def connected():
            process.stdin.write("\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        try:
            yield connected
        finally:
            process.communicate(timeout=60)

    def _start(self, attack, sources, options):
        target = {"host": self.victim, "port": 443, "name": self.victim, "sources": sources or self.sources}
        command = ["docker", "exec", "--interactive", self.name, "python3", "/attack.py"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write(json.dumps({"attack": attack, "target": target} | options) + "\n")
        process.stdin.flush()
        return process


def docker(*arguments):
    """Run docker; return what it printed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def attacker(cluster):
    """The machine, until the last test has ended."""
    machine = Attacker(cluster)
    yield machine
    docker("rm", "--force", machine.name)
