"""The running cluster that ANYNODE_INVENTORY describes: its hosts, clients, and runs of Ansible."""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
SECRETS = (
    "redis_app_password",
    "redis_admin_password",
    "app_secret_key",
    "app_demo_password",
    "nginx_maintenance_bypass_token",
)
PUBLIC = (".crt", ".crl", ".pub", ".container", "known_hosts", "cluster_id")  # beside the secrets
Result = TypeVar("Result")


@dataclass
class Run:
    """A finished run of a playbook.

    output: standard output and standard error. tasks: see tests/lib/callback/task_log.py.
    """

    returncode: int
    output: str
    tasks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the run succeeded."""
        return self.returncode == 0

    @property
    def words(self) -> str:
        """The output with each run of whitespace replaced by a space: Ansible wraps messages."""
        return " ".join(self.output.split())

    @property
    def changed(self) -> dict[str, int]:
        """The number of changed tasks by host."""
        return changed(self.output)

    @property
    def idempotent(self) -> bool:
        """Whether the run reached a host and changed none."""
        return set(self.changed.values()) == {0}

    @property
    def roles(self) -> set[str]:
        """The roles of the tasks that started."""
        return {parts[1] for parts in (task["file"].split("/") for task in self.tasks) if parts[0] == "roles"}


class Cluster:
    """The hosts of an inventory."""

    def __init__(self, inventory: str | Path) -> None:
        self.inventory = Path(inventory)
        listed = subprocess.run(
            ["ansible-inventory", "-i", inventory, "--list"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        data = json.loads(listed.stdout)
        self.groups: dict[str, list[str]] = {
            name: data.get(name, {}).get("hosts", []) for name in ("nginx", "redis", "app")
        }
        self.variables: dict[str, dict[str, Any]] = data["_meta"]["hostvars"]
        self.address = {host: self.variables[host]["ansible_host"] for group in self.groups.values() for host in group}
        self.balancer, self.redis, self.apps = self.groups["nginx"][0], self.groups["redis"][0], self.groups["app"]
        self.extra_ports = self.variables[self.apps[0]]["firewall_extra_ports"]
        self.prefix = self.variables[self.balancer]["local_nodes_prefix"]

    def of_size(self, name: str) -> Cluster:
        """Return the same cluster by another inventory beside this: of_size("four") reads four.yml."""
        return _read_cluster(self.inventory.with_name(f"{name}.yml"))

    def secret(self, name: str) -> str:
        """Return a secret of this inventory."""
        return (self.inventory.parent / ".secrets" / name).read_text().strip()

    def secrets(self) -> dict[str, str]:
        """Return, by name, a line of each secret: those of this inventory, and the private keys made on its hosts."""
        directory = self.inventory.parent / ".secrets"
        files = [path for path in directory.rglob("*") if path.is_file() and not path.name.endswith(PUBLIC)]
        texts = {str(path.relative_to(directory)): path.read_text() for path in files}
        for host in self.address:
            for path in self.run(host, "ls /etc/anynode/tls/*.key", check=False).split():
                texts[f"{host}:{path}"] = self.run(host, f"cat {path}")
        return {name: unique_line(text) for name, text in texts.items()}

    @property
    def ca(self) -> Path:
        """The certificate of the inventory's CA."""
        return self.inventory.parent / ".secrets" / "ca.crt"

    @property
    def account(self) -> dict[str, str]:
        """The JSON that logs the demo account in."""
        return {"username": "demo", "password": self.secret("app_demo_password")}

    def playbook(self, playbook: str, *arguments: str, inventory: str | Path | None = None) -> Run:
        """Run a playbook as an operator would, without colors."""
        with self.background(playbook, *arguments, inventory=inventory) as process:
            return process.wait()

    def converge(self, *arguments: str, inventory: str | Path | None = None) -> Run:
        """Run site.yml, which must succeed."""
        run = self.playbook("site.yml", *arguments, inventory=inventory)
        assert run.ok, run.output
        return run

    @contextmanager
    def background(
        self, playbook: str, *arguments: str, inventory: str | Path | None = None, hold_at: str = ""
    ) -> Iterator[Background]:
        """Run a playbook while the block runs; it is killed if it still runs at the end of the block.

        hold_at: "FILE-PREFIX MODULE", the task before which the run is held; one of them may be empty.
        """
        with tempfile.TemporaryDirectory() as folder:
            process = Background(
                Path(folder),
                hold_at,
                ["ansible-playbook", "-i", str(inventory or self.inventory), playbook, *arguments],
            )
            try:
                yield process
            finally:
                process.kill()

    def interrupt(self, hold_at: str, playbook: str, *arguments: str) -> None:
        """Run a playbook and kill it before the task that hold_at names; see background."""
        with self.background(playbook, *arguments, hold_at=hold_at) as process:
            process.wait_until_held()

    def run(self, host: str, command: str, check: bool = True) -> str:
        """Run a shell command as root on a host; return its output without surrounding whitespace."""
        container = f"{self.prefix}-{host}"
        done = subprocess.run(
            ["docker", "exec", container, "sh", "-c", command],
            capture_output=True,
            text=True,
            errors="replace",  # logs hold bytes that clients sent
            check=False,
        )
        assert not check or done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def url(self, host: str) -> str:
        """Return the URL of an app node or of the balancer."""
        return f"http://{self.address[host]}:8000" if host in self.apps else f"https://{self.address[host]}"

    @property
    def http_hosts(self) -> list[str]:
        """Every host that answers clients: the app nodes, and the balancer."""
        return [*self.apps, self.balancer]

    def becomes_ready(self, host: str, seconds: float = 10) -> bool:
        """Return whether a node, or the balancer, is ready within so many seconds."""
        return eventually(lambda: self.client().get(host, "/readyz").status_code == 200, seconds)

    def client(self) -> Client:
        """Return a client without a cookie."""
        return Client(self)

    def log_in(self, host: str) -> Client:
        """Return a client that is logged in as the demo user, on `host`."""
        client = self.client()
        answer = client.post(host, "/api/login", self.account)
        assert answer.status_code == 200, answer.text
        return client


@cache
def _read_cluster(inventory: Path) -> Cluster:
    return Cluster(inventory)


class Background:
    """A playbook that runs in the background, in a session of its own."""

    def __init__(self, folder: Path, hold_at: str, command: list[str]) -> None:
        self.log, self.tasks_file, self.command = folder / "log", folder / "tasks", command
        config = configparser.ConfigParser(interpolation=None)
        config.read(ROOT / "ansible.cfg")
        settings = {
            "ANSIBLE_FORCE_COLOR": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_CALLBACK_PLUGINS": f"{ROOT}/{config['defaults']['callback_plugins']}:{ROOT}/tests/lib/callback",
            "ANSIBLE_CALLBACKS_ENABLED": f"{config['defaults']['callbacks_enabled']},task_log",
            "ANYNODE_TASK_LOG": str(self.tasks_file),
            "ANYNODE_HOLD_AT": hold_at,
        }
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the run has not ended yet."""
        return self.process.poll() is None

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks that have started so far."""
        text = self.tasks_file.read_text() if self.tasks_file.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_until_held(self, seconds: float = 300) -> None:
        """Wait until the run is held at its task."""
        held = eventually(lambda: not self.running or any(task["held"] for task in self.tasks), seconds)
        assert held and self.running, f"the run did not reach the task: {self.log.read_text()}"

    def wait_for(self, condition: Callable[[], object], seconds: float) -> None:
        """Wait until condition() is true, while the run goes on."""
        met = eventually(lambda: not self.running or condition(), seconds)
        assert met and self.running, f"the run ended, or time was up: {self.log.read_text()}"

    def wait(self) -> Run:
        """Wait for the end of the run."""
        returncode = self.process.wait()
        return Run(returncode, self.log.read_text(errors="replace"), self.tasks)

    def kill(self) -> None:
        """Kill the run, unless it has ended."""
        if self.running:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Client:
    """Sends JSON with a single cookie to any host: a cookie jar would keep it to the address that set it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.cookie: str | None = None

    def request(
        self, method: str, host: str, path: str, headers: dict[str, str] | None = None, **options: Any
    ) -> requests.Response:
        """Send a request on a connection of its own, with a timeout of 10 s."""
        headers = {"Accept": "application/json", "Connection": "close"} | (headers or {})
        if self.cookie and "Cookie" not in headers:
            headers["Cookie"] = self.cookie
        settings: dict[str, Any] = {"headers": headers, "timeout": 10, "verify": self.cluster.ca} | options
        answer = requests.request(method, self.cluster.url(host) + path, **settings)
        for cookie in (each for each in answer.cookies if each.name.endswith("session")):
            self.cookie = f"{cookie.name}={cookie.value}"
        return answer

    def get(self, host: str, path: str = "/api/session", **options: Any) -> requests.Response:
        """Send a GET request."""
        return self.request("GET", host, path, **options)

    def post(self, host: str, path: str, data: object = None, **options: Any) -> requests.Response:
        """Post JSON."""
        return self.request("POST", host, path, json=data or {}, **options)


def unique_line(text: str) -> str:
    """Return the line of a secret that no other secret has: OpenSSH's keys of a kind share the first two lines."""
    return text.splitlines()[2 if "OPENSSH PRIVATE KEY" in text else 1 if "PRIVATE KEY" in text else 0]


def changed(output: str) -> dict[str, int]:
    """Return the number of changed tasks by host, from a recap."""
    return {host: int(n) for host, n in re.findall(r"^(\S+)\s+: ok=.*changed=(\d+)", output, re.MULTILINE)}


def eventually(condition: Callable[[], Result], seconds: float = 10) -> Result:
    """Wait until `condition()` is true, and return its result; give up after `seconds`."""
    end = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return result


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that ANYNODE_INVENTORY names; molecule sets it."""
    inventory = os.environ.get("ANYNODE_INVENTORY")
    assert inventory, "ANYNODE_INVENTORY must name the inventory of a running cluster; `make molecule` sets it"
    return Cluster(inventory)
