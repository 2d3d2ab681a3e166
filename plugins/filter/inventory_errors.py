"""Finds what is wrong with an inventory, before a machine is touched."""

import difflib
import ipaddress
import re
from pathlib import Path

import yaml
from ansible.utils.display import Display

ROLES = Path(__file__).resolve().parents[2] / "roles"
GROUPS = ("nginx", "redis", "app")
# A text that consists of such words and of no others; a random one may well contain "xxx" or "todo".
WORDS = """
    change me placeholder password passwort passwd secret example sample dummy default todo tbd fixme x{3,} replace
    insert enter put set your my our the this that is here please now random value key token string app redis admin
    chars? characters? long very at least with
"""
PLACEHOLDER = re.compile(rf"<.*>|[^a-z]*(?:(?:{'|'.join(WORDS.split())})[^a-z]*)+", re.IGNORECASE)
SECRET_LENGTH = 16  # characters; made ones have 24 to 64
SECRET_LENGTHS = {"app_secret_key": 32}
IN_ADDRESSES = ("nginx_maintenance_bypass_token",)  # secrets that are part of an address, and a cookie
HASH = re.compile(r"(scrypt:\d+:\d+:\d+|pbkdf2:sha(1|256|512):\d+)\$[^$]+\$[0-9a-f]+")

# At most; 1 at least. nginx doesn't start with more connections; with 0 it doesn't either, or lets nobody in.
LIMITS = {
    "nginx_requests_per_second": 1_000_000,
    "nginx_requests_burst": 1_000_000,
    "nginx_logins_per_minute": 1_000_000,
    "nginx_logins_burst": 1_000_000,
    "nginx_connections_per_client": 65_535,
}

# OWASP's Password Storage Cheat Sheet: how often, at least, by method and memory
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


def known_options():
    """Return every option of every role, from the argument specs, and the roles' names."""
    options, roles = set(), set()
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        first = next(iter(yaml.safe_load(path.read_text())["argument_specs"].values()))
        options |= set(first.get("options", {}))
        roles.add(path.parents[1].name)
    return options, roles


def group_errors(groups):
    """Each tier needs machines of its own."""
    for name in GROUPS:
        if name not in groups:
            yield f"The group `{name}` is missing. Add it to the inventory, with at least one host."
        elif not groups[name]:
            yield f"The group `{name}` is empty. List at least one host in it."
    if len(groups.get("redis", [])) > 1:
        hosts = ", ".join(groups["redis"])
        yield f"The group `redis` has {len(groups['redis'])} hosts ({hosts}): sessions live in one Redis. Keep one."
    for host in sorted({host for name in GROUPS for host in groups.get(name, [])}):
        inside = [name for name in GROUPS if host in groups.get(name, [])]
        if len(inside) > 1:
            yield (
                f"{host} is in the groups {' and '.join(inside)}: a machine has one job here, so that it can be "
                "drained, rebooted or lost without taking another one along. Keep it in one of them."
            )


def address_errors(groups, hostvars):
    """Each host needs an IP address of its own, and a local one lies in its cluster's subnet."""
    owners = {}
    for host in sorted({host for name in GROUPS for host in groups.get(name, [])}):
        variables = hostvars[host]
        if "ansible_host" not in variables:
            yield f"{host} has no ansible_host. Give it the address at which it can be reached."
            continue
        # SSH may go to a name, or through one address to many machines; the nodes themselves need addresses.
        option = "topology_address" if "topology_address" in variables else "ansible_host"
        address = str(variables[option])
        if is_address(address):
            owners.setdefault(ipaddress.ip_address(address), []).append(host)
        else:
            yield f"{host}: {option} is {address!r}, which is not an IP address. Give it one, or set topology_address."
        if host in groups.get("local_nodes", []):
            yield from local_errors(host, variables)
    for address, hosts in owners.items():
        if len(hosts) > 1:
            yield f"{' and '.join(hosts)} have the same address, {address}. Each machine needs its own."


def local_errors(host, variables):
    """A container's address lies in the cluster's subnet, and is neither of the two that the engine takes."""
    subnet, address = str(variables.get("local_nodes_subnet", "10.77.0.0/24")), str(variables["ansible_host"])
    try:
        network = ipaddress.ip_network(subnet)
    except ValueError as error:
        yield f"local_nodes_subnet: {error}. An example: 10.77.0.0/24."
        return
    if not is_address(address):
        return
    if ipaddress.ip_address(address) not in network:
        yield f"{host}: {address} is not in local_nodes_subnet, {subnet}. Change one of the two."
    elif ipaddress.ip_address(address) in (network[0], network[1], network[-1]):
        yield f"{host}: {address} belongs to the network {subnet} itself (name, gateway or broadcast). Choose another."


def is_address(text):
    """Tell whether a text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def option_errors(groups, hostvars):
    """A name that begins like a role's options, or nearly is one, but is none of them, is a misspelt one."""
    options, roles = known_options()
    found = {}
    for host in groups.get("all", []):
        for name in hostvars[host]:
            if name not in options and not name.startswith("ansible_"):
                found.setdefault(name, host)
    for name, host in sorted(found.items()):
        is_ours = any(name.startswith(f"{role}_") for role in roles)
        # Other names are the user's own, unless they are all but one of ours.
        close = difflib.get_close_matches(name, options, n=1, cutoff=0.6 if is_ours else 0.85)
        if is_ours or close:
            hint = f"Did you mean `{close[0]}`?" if close else "See roles/*/meta/argument_specs.yml for all options."
            yield f"`{name}` (seen for {host}) is not an option of any role. {hint}"


def thread_errors(groups, hostvars):
    """Logins may not keep all threads of a process busy."""
    options = yaml.safe_load((ROLES / "app/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    for host in groups.get("app", []):
        names = ("app_login_threads", "app_threads")
        logins, threads = (str(hostvars[host].get(name, options[name]["default"])) for name in names)
        # The types of all options are looked at later.
        if logins.isdecimal() and threads.isdecimal() and int(logins) >= int(threads):
            yield (
                f"{host}: app_login_threads is {logins} and app_threads {threads}: while that many log in, nobody else "
                "is served. Set app_login_threads lower, or app_threads higher."
            )


def value_errors(groups, hostvars):
    """Values that a type alone doesn't rule out, and that nginx or nft would stumble over later."""
    for host in groups.get("all", []):
        variables = hostvars[host]
        if "nginx_server_names" in variables:
            yield from name_errors(variables["nginx_server_names"])
        for option, most in LIMITS.items():
            text = str(variables.get(option, 1))
            if re.fullmatch(r"[+-]?\d+", text) and not 1 <= int(text) <= most:
                yield f"{option} is {text}. It needs 1 at least, and takes {most} at most; that is as good as no limit."
        for option in ("firewall_ssh_sources", "firewall_extra_ports"):
            given = variables.get(option) or []
            for each in given if isinstance(given, list) else []:
                sources = each.get("sources", []) if isinstance(each, dict) else [each]
                yield from source_errors(option, sources)


def name_errors(names):
    """A name is what a visitor's Host says before the port."""
    if not names:
        yield (
            "nginx_server_names is empty: nobody would be served. List the names and addresses that visitors use, or"
            " remove its definition, and the balancer's addresses are it."
        )
    for name in names if isinstance(names, list) else []:
        if not is_address(name) and not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", str(name)):
            yield (
                f"nginx_server_names has {name!r}, which is neither a DNS name nor an IP address. Leave scheme, port,"
                " path and brackets out; the port that visitors type is nginx_public_tls_port."
            )


def source_errors(option, sources):
    """A source is an address, or a network by its first address."""
    for source in sources if isinstance(sources, list) else []:
        try:
            ipaddress.ip_network(str(source))
        except ValueError as error:
            try:
                meant = f"{ipaddress.ip_interface(str(source)).network} or {ipaddress.ip_interface(str(source)).ip}"
            except ValueError:
                meant = "192.0.2.7 or 192.0.2.0/24"
            yield f"{option}: {error}. Write an address or a network, such as {meant}."


def secret_errors(secrets):
    """No secret has a default, and none may be guessed."""
    each = [(name, one) for name, value in secrets.items() for one in (value if isinstance(value, list) else [value])]
    for name, value in each:
        text = str(value or "")
        problem = None
        if not text:
            problem = "is missing. Define it, or remove the empty definition and one is made."
        elif PLACEHOLDER.fullmatch(text):
            problem = "looks like a placeholder. Remove its definition and a real one is made."
        elif len(text) < (least := SECRET_LENGTHS.get(name.removesuffix("_fallbacks"), SECRET_LENGTH)):
            problem = f"has {len(text)} characters; it needs {least}. Remove its definition and one is made."
        elif not re.fullmatch(r"[\x21\x23-\x26\x28-\x5b\x5d-\x7e]+", text):
            problem = "has characters that a file of environment variables can't hold (quotes, spaces, backslashes)."
        elif name in IN_ADDRESSES and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text):
            problem = "is part of an address: it may have letters, digits, - and _, 128 at most."
        if problem:
            yield f"The secret `{name}` {problem}"


def scope_errors(secrets, hostvars, groups):
    """A secret is one for the whole cluster: what some hosts alone have, others would make up for themselves."""
    for name, value in secrets.items():
        others = [host for host in groups["all"] if name in hostvars[host] and hostvars[host][name] != value]
        if others:
            yield (
                f"The secret `{name}` that is defined for {', '.join(others)} is not what other hosts have. Define it"
                " for all of them, in group_vars/all."
            )


def user_errors(users, demo_user):
    """People's passwords are stored as hashes."""
    if not isinstance(users, dict):
        yield "app_users must be a dictionary, name: hash. `make hash` prints a hash."
        return
    for name, value in users.items():
        if name == demo_user:
            yield f"app_users has {name}, which is the name of the demo account. Rename it, or set app_demo_user."
        if not re.fullmatch(r"[A-Za-z0-9._@+-]{1,64}", str(name)):
            yield f"app_users: {name!r} is not a name (1 to 64 letters, digits, or one of . _ @ + -)."
        if not HASH.fullmatch(str(value)):
            yield f"app_users: {name} has something that is not a hash. `make hash` prints one; never write a password."


def weak_hashes(users):
    """Tell of hashes that work, but are guessed too fast by whoever gets hold of them."""
    for name, value in users.items() if isinstance(users, dict) else ():
        if HASH.fullmatch(str(value)):
            method, _, number = value.split("$")[0].rpartition(":")
            if int(number) < OWASP.get(method, 0) or method not in OWASP:
                yield (
                    f"app_users: {name} has a hash that is none of OWASP's settings ({method}:{number}). It works,"
                    " and makes every login slower. Let them make a new one: `make hash`."
                )


def inventory_errors(hostvars, groups, users, demo_user):
    """Return a list of messages, each with the culprit and the remedy; empty if the inventory can work."""
    errors = list(group_errors(groups))
    errors += address_errors(groups, hostvars)
    errors += option_errors(groups, hostvars)
    errors += thread_errors(groups, hostvars)
    errors += value_errors(groups, hostvars)
    hosts = [hostvars[host] for host in groups.get("all", [])]
    users_of = [users, *(variables["app_users"] for variables in hosts if "app_users" in variables)]
    errors += [error for each in users_of for error in user_errors(each, demo_user)]
    for text in dict.fromkeys(text for each in users_of for text in weak_hashes(each)):
        Display().warning(text)
    return list(dict.fromkeys(errors))


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Name the filters."""
        return {
            "inventory_errors": inventory_errors,
            "secret_errors": lambda secrets, *all_hosts: [*secret_errors(secrets), *scope_errors(secrets, *all_hosts)],
        }
