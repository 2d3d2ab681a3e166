"""Broken on purpose, repaired by running again; and what stands in the way is named."""

import os
import subprocess

import pytest
from lib.cluster import ROOT, SECRETS


def containers(label):
    """Names of the containers that carry a cluster's label."""
    listed = subprocess.run(
        ["docker", "ps", "-a", "--filter", f"label=anynode.cluster={label}", "--format", "{{.Names}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listed.stdout.split())


def kill_at(cluster, marker, *arguments):
    """Run site.yml, and kill it and all its processes as soon as it prints `marker`."""
    command = ["ansible-playbook", "-i", str(cluster.inventory), "site.yml", *arguments]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = any(marker in line for line in run.stdout)
    # By its words: Ansible's workers have process groups of their own.
    subprocess.run(["pkill", "-KILL", "-f", " ".join(command)], check=True)
    run.stdout.close()
    run.wait()
    assert found, f"the run ended before {marker}"


def test_half_of_the_machines_gone_and_a_run_that_was_killed_while_it_made_them(cluster):
    """Running again makes them, and who was logged in still is. Not even --diff shows a secret or key on the way."""
    visitor = cluster.log_in(cluster.apps[0])
    gone = [f"{cluster.prefix}-{cluster.balancer}", f"{cluster.prefix}-{cluster.apps[1]}"]
    subprocess.run(["docker", "rm", "--force", *gone], check=True, capture_output=True)
    kill_at(cluster, "TASK [local_nodes : Install the SSH keys")  # they have no keys yet, or weren't switched on
    output = cluster.converge("--diff", "-vvv")
    assert "+APP_NODE=" in output
    secrets = cluster.secrets()
    assert set(SECRETS) | {"ca.key", f"{cluster.balancer}:/etc/anynode/tls/nginx.key"} <= set(secrets)
    assert [name for name, line in secrets.items() if line in output] == []
    for host in cluster.doors:
        assert visitor.get(host).status_code == 200


# In the place of tar: leaves the app out, and fails.
HALF_TAR = """#!/bin/sh
case " $* " in *" --extract "*) /usr/bin/tar "$@" --exclude "*/anynode/*"; exit 1 ;; esac
exec /usr/bin/tar "$@"
"""


def test_half_a_release_is_never_taken_for_a_whole_one(cluster):
    """Unpacking breaks off: the run says so, the app goes on, and the next run ships the release anew."""
    victim = cluster.apps[1]
    cluster.run(
        victim, f"rm -r /srv/anynode/releases/*; echo '{HALF_TAR}' > /usr/local/bin/tar; chmod +x /usr/local/bin/tar"
    )
    try:
        assert cluster.playbook("site.yml", "--tags", "app").returncode != 0
        assert cluster.visitor().get(victim, "/readyz").status_code == 200
    finally:
        cluster.run(victim, "rm /usr/local/bin/tar")
    cluster.converge("--tags", "app")
    cluster.run(victim, "systemctl restart anynode.service")
    assert cluster.visitor().get(victim, "/readyz").status_code == 200
    assert cluster.run(victim, "ls /srv/anynode/incoming") == ""


def test_old_releases_are_pruned_and_the_current_one_never_is(cluster):
    """When something is put in the place of what runs, the newest five stay, and what runs even if it is the oldest."""
    host = cluster.apps[0]
    current = cluster.run(host, "readlink /srv/anynode/current/release")
    cluster.run(host, "cd /srv/anynode/releases && for i in 1 2 3 4 5 6 7; do mkdir old-$i; sleep 0.01; done")
    try:
        cluster.converge("--tags", "app", "--limit", host, "-e", "app_threads=7")
    finally:
        cluster.converge("--tags", "app", "--limit", host)
    left = cluster.run(host, "ls /srv/anynode/releases").split()
    assert sorted(left) == sorted([current.removeprefix("/srv/anynode/releases/"), *(f"old-{i}" for i in range(3, 8))])
    assert cluster.run(host, "readlink /srv/anynode/current/release") == current
    cluster.run(host, "rm -r /srv/anynode/releases/old-*")


# By tag: a setting; where the run is killed, between writing and loading it; what loads it.
SETTINGS = {
    "redis": ("redis_maxmemory=200mb", "TASK [redis : Check whether", "HANDLER [redis : Restart Redis]"),
    "nginx": ("nginx_read_timeout=29s", "TASK [nginx : See whether", "HANDLER [nginx : Reload, never restart]"),
    "app": ("app_threads=7", "TASK [app : Compare it with what runs]", "TASK [app : Put the new release"),
}


def test_a_setting_that_was_written_but_not_loaded_is_loaded_by_the_next_run(cluster):
    """Killed between the two: the next run finds the file in order, and the service with an older one."""
    tags = ["--tags", ",".join(SETTINGS)]
    every = [word for setting, _, _ in SETTINGS.values() for word in ("-e", setting)]
    try:
        for tag, (setting, marker, _) in SETTINGS.items():
            kill_at(cluster, marker, "--tags", tag, "-e", setting)
        # Not at once: who takes a node out reloads nginx, too.
        output = cluster.converge("--tags", "redis,nginx", *every) + cluster.converge("--tags", "app", *every)
        assert [loads for *_, loads in SETTINGS.values() if loads not in output] == []
        output = cluster.converge(*tags, *every)
        assert [loads for *_, loads in SETTINGS.values() if loads in output] == []
    finally:
        cluster.converge(*tags)


@pytest.fixture
def other(cluster, tmp_path):
    """An inventory for a second cluster, whose subnet and port a test chooses; its machines are removed afterwards."""

    def write(subnet, port):
        hosts = {"nginx": "lb1", "redis": "redis1", "app": "app1"}
        network = subnet.rsplit(".", 1)[0]
        lines = ["all:", "  children:"]
        for number, (group, host) in enumerate(hosts.items(), 200):
            lines.append(f"    {group}: {{hosts: {{{host}: {{ansible_host: {network}.{number}}}}}}}")
        lines.append("    local_nodes:")
        lines.append("      children: {nginx: , redis: , app: }")
        lines.append("      vars:")
        lines.append("        local_nodes_prefix: anynode-other")
        lines.append(f"        local_nodes_subnet: {subnet}")
        lines.append(f"        local_nodes_http_port: {port}")
        lines.append("        local_nodes_https_port: 18499")
        path = tmp_path / "hosts.yml"
        path.write_text("\n".join(lines) + "\n")
        return path

    yield write
    done = cluster.playbook("playbooks/destroy.yml", "--skip-tags", "notest", inventory=tmp_path / "hosts.yml")
    assert done.returncode == 0, done.stdout
    assert not containers("anynode-other")
    networks = subprocess.run(
        ["docker", "network", "ls", "--format", "{{.Name}}"], capture_output=True, text=True, check=True
    )
    assert {cluster.prefix} == {cluster.prefix, "anynode-other"} & set(networks.stdout.split())
    assert containers(cluster.prefix), "the other cluster's end must not touch this one"


def test_a_subnet_that_is_taken_is_named(cluster, other):
    """The message names the option; nothing of this cluster is touched."""
    inventory = other(cluster.variables[cluster.redis]["local_nodes_subnet"], 18099)
    done = cluster.playbook("site.yml", "--tags", "local_nodes", inventory=inventory)
    assert done.returncode != 0
    assert "set local_nodes_subnet" in " ".join(done.stdout.split())


@pytest.fixture
def bridge():
    """An interface of this computer with an address; the engine doesn't know of it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make an interface")
    name = "anynode-test"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "10.99.0.1/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def test_an_interface_with_the_same_addresses_is_named(cluster, other, bridge):
    """Docker would make the network all the same, and it would be left to chance who is reached."""
    done = cluster.playbook("site.yml", "--tags", "local_nodes", inventory=other("10.99.0.0/24", 18099))
    assert done.returncode != 0
    output = " ".join(done.stdout.split())
    assert f"interface {bridge}" in output
    assert "set local_nodes_subnet" in output


def test_a_port_that_is_taken_is_named(cluster, other):
    """The message names the option; nothing of this cluster is touched."""
    inventory = other("10.99.0.0/24", cluster.variables[cluster.redis]["local_nodes_http_port"])
    done = cluster.playbook("site.yml", "--tags", "local_nodes", inventory=inventory)
    assert done.returncode != 0
    assert "set local_nodes_http_port" in " ".join(done.stdout.split())
