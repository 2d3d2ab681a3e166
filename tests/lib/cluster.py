"""What tests need to know and to do about the running cluster that ANYNODE_INVENTORY describes."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

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
PUBLIC = (".crt", ".crl", ".pub", "known_hosts")  # beside the secrets


class Cluster:
    """The machines of one inventory."""

    def __init__(self, inventory):
        self.inventory = Path(inventory)
        listed = subprocess.run(
            ["ansible-inventory", "-i", inventory, "--list"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        data = json.loads(listed.stdout)
        self.groups = {name: data.get(name, {}).get("hosts", []) for name in ("nginx", "redis", "app")}
        self.variables = data["_meta"]["hostvars"]
        self.address = {host: self.variables[host]["ansible_host"] for group in self.groups.values() for host in group}
        self.balancer, self.redis, self.apps = self.groups["nginx"][0], self.groups["redis"][0], self.groups["app"]
        self.extra_ports = self.variables[self.apps[0]]["firewall_extra_ports"]
        self.prefix = self.variables[self.balancer]["local_nodes_prefix"]

    def secret(self, name):
        """One of the secrets that were made for this inventory."""
        return (self.inventory.parent / ".secrets" / name).read_text().strip()

    def secrets(self):
        """By name, a line of each secret: those of this inventory, and the private keys that its machines made."""
        directory = self.inventory.parent / ".secrets"
        files = [path for path in directory.rglob("*") if path.is_file() and not path.name.endswith(PUBLIC)]
        texts = {str(path.relative_to(directory)): path.read_text() for path in files}
        for host in self.address:
            for path in self.run(host, "ls /etc/anynode/tls/*.key", check=False).split():
                texts[f"{host}:{path}"] = self.run(host, f"cat {path}")
        return {name: telling_line(text) for name, text in texts.items()}

    @property
    def ca(self):
        """The certificate of the inventory's CA."""
        return self.inventory.parent / ".secrets" / "ca.crt"

    @property
    def account(self):
        """The JSON that logs the demo account in."""
        return {"username": "demo", "password": self.secret("app_demo_password")}

    def playbook(self, playbook, *arguments, inventory=None):
        """Run a playbook as a user would; return the finished process, with colours off."""
        return subprocess.run(
            ["ansible-playbook", "-i", str(inventory or self.inventory), playbook, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"},
        )

    def converge(self, *arguments, inventory=None):
        """Run site.yml, which must succeed; return its output."""
        done = self.playbook("site.yml", *arguments, inventory=inventory)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, host, command, check=True):
        """Run a shell command as root on a machine; return what it printed."""
        container = f"{self.prefix}-{host}"
        done = subprocess.run(
            ["docker", "exec", container, "sh", "-c", command],
            capture_output=True,
            text=True,
            errors="replace",  # logs hold what visitors sent
            check=False,
        )
        assert not check or done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def url(self, host):
        """Where a node, or the balancer, answers."""
        return f"http://{self.address[host]}:8000" if host in self.apps else f"https://{self.address[host]}"

    @property
    def doors(self):
        """Every host that answers visitors: the nodes themselves, and the balancer."""
        return [*self.apps, self.balancer]

    def visitor(self):
        """A visitor with cookies of their own."""
        return Visitor(self)

    def log_in(self, host):
        """A visitor who is logged in, on `host`."""
        visitor = self.visitor()
        answer = visitor.post(host, "/api/login", self.account)
        assert answer.status_code == 200, answer.text
        return visitor


class Visitor:
    """Sends JSON with one cookie to any host: a cookie jar would keep it to the address that set it."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.cookie = None

    def request(self, method, host, path, headers=None, **options):
        """One request on a connection of its own, given up after 10 s."""
        headers = {"Accept": "application/json", "Connection": "close"} | (headers or {})
        if self.cookie and "Cookie" not in headers:
            headers["Cookie"] = self.cookie
        options = {"headers": headers, "timeout": 10, "verify": self.cluster.ca} | options
        answer = requests.request(method, self.cluster.url(host) + path, **options)
        for cookie in (each for each in answer.cookies if each.name.endswith("session")):
            self.cookie = f"{cookie.name}={cookie.value}"
        return answer

    def get(self, host, path="/api/session", **options):
        """GET."""
        return self.request("GET", host, path, **options)

    def post(self, host, path, data=None, **options):
        """POST JSON."""
        return self.request("POST", host, path, json=data or {}, **options)


def telling_line(text):
    """The line of a secret that no other one has. All of OpenSSH's keys of a kind have the first two in common."""
    return text.splitlines()[2 if "OPENSSH PRIVATE KEY" in text else 1 if "PRIVATE KEY" in text else 0]


def changed(output):
    """The number of changed tasks by host, from a recap."""
    return {host: int(n) for host, n in re.findall(r"^(\S+)\s+: ok=.*changed=(\d+)", output, re.MULTILINE)}


def eventually(condition, seconds=10):
    """Wait until `condition()` is true, and return it; give up after `seconds`."""
    end = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return result


@pytest.fixture(scope="session")
def cluster():
    """The cluster that ANYNODE_INVENTORY names; molecule sets it."""
    inventory = os.environ.get("ANYNODE_INVENTORY")
    assert inventory, "ANYNODE_INVENTORY must name the inventory of a running cluster; `make molecule` sets it"
    return Cluster(inventory)
