"""Values of the right type that nginx, nftables or the app would refuse later, on the host."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.anynode.validation import Groups, Hosts, Specs, shown
from ansible.module_utils.anynode.validation.groups import is_address

HASH = re.compile(r"(scrypt:\d+:\d+:\d+|pbkdf2:sha(1|256|512):\d+)\$[^$]+\$[0-9a-f]+")

# OWASP's Password Storage Cheat Sheet: smallest number of passes by method and memory
OWASP = {
    "scrypt:131072:8": 1,
    "scrypt:65536:8": 2,
    "scrypt:32768:8": 3,
    "scrypt:16384:8": 5,
    "scrypt:8192:8": 10,
    "pbkdf2:sha512": 210_000,
    "pbkdf2:sha256": 600_000,
    "pbkdf2:sha1": 1_300_000,
}


def thread_errors(groups: Groups, hosts: Hosts, specs: Specs) -> Iterator[str]:
    """Logins must leave a thread of each process to other requests."""
    for host in groups.get("app", []):
        logins, threads = (
            str(hosts[host].get(name, specs[name]["default"])) for name in ("app_login_threads", "app_threads")
        )
        if logins.isdecimal() and threads.isdecimal() and int(logins) >= int(threads):
            yield (
                f"{host}: app_login_threads is {logins} and app_threads is {threads}, so logins could occupy"
                " all threads of a process. Set app_login_threads lower, or app_threads higher."
            )


def value_errors(hosts: Hosts) -> Iterator[str]:
    """Check names and sources of every host."""
    for variables in hosts.values():
        if "nginx_server_names" in variables:
            yield from server_name_errors(variables["nginx_server_names"])
        for option in ("firewall_ssh_sources", "firewall_extra_ports", "nginx_trusted_proxies"):
            given = variables.get(option) or []
            for each in given if isinstance(given, list) else []:
                sources = each.get("sources", []) if isinstance(each, dict) else [each]
                yield from source_errors(option, sources)


def server_name_errors(server_names: Any) -> Iterator[str]:
    """A server name is a client's Host header without the port."""
    if server_names == []:
        yield (
            "nginx_server_names is empty, so nginx would refuse every request. List the names that clients"
            " use, or remove the definition: the default is the balancer's addresses."
        )
    for name in server_names if isinstance(server_names, list) else []:
        if not is_address(name) and not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", str(name)):
            yield (
                f"nginx_server_names has {shown(name)}, which is neither a DNS name nor an IP address. Remove scheme,"
                " port, path and brackets; nginx_public_tls_port is the port that clients use."
            )


def source_errors(option: str, sources: Any) -> Iterator[str]:
    """A source is an address, or a network written with its first address."""
    for source in sources if isinstance(sources, list) else []:
        try:
            ipaddress.ip_network(str(source))
        except ValueError as error:
            try:
                meant = f"{ipaddress.ip_interface(str(source)).network} or {ipaddress.ip_interface(str(source)).ip}"
            except ValueError:
                meant = "192.0.2.7 or 192.0.2.0/24"
            yield f"{option}: {error}. Write an address or a network, such as {meant}."


def user_errors(users: Any, demo_user: str) -> Iterator[str]:
    """Passwords of users are stored as hashes; messages never show the value."""
    if not isinstance(users, dict):
        yield "app_users must be a dictionary, name: hash. `make hash` prints a hash."
        return
    for name, value in users.items():
        if name == demo_user:
            yield f"app_users has {name}, which is the name of the demo account. Rename it, or set app_demo_user."
        if not re.fullmatch(r"[A-Za-z0-9._@+-]{1,64}", str(name)):
            yield f"app_users: {shown(name)} is not a name (1 to 64 letters, digits, or one of . _ @ + -). Rename it."
        if not HASH.fullmatch(str(value)):
            yield f"app_users: the value of {name} is not a hash. `make hash` prints one; never write a password."


def user_warnings(users: Any) -> Iterator[str]:
    """Warn of hashes that work, but with fewer passes than OWASP recommends."""
    for name, value in users.items() if isinstance(users, dict) else ():
        if HASH.fullmatch(str(value)):
            method, _, passes = value.split("$")[0].rpartition(":")
            if int(passes) < OWASP.get(method, 0) or method not in OWASP:
                yield (
                    f"app_users: the hash of {name} ({method}:{passes}) is not one of OWASP's settings. It works, and"
                    " makes every login slower. Replace it with a hash that `make hash` prints."
                )
