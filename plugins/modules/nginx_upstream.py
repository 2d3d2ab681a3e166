#!/usr/bin/python
"""Drain and undrain the app nodes behind nginx."""

import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import write_atomically
from ansible.module_utils.anynode.nginx import (
    CONFIG,
    STATE,
    File,
    NginxError,
    Server,
    Upstream,
    dump,
    install,
    is_outdated,
    read,
    read_upstream,
    run,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nginx_upstream
short_description: Drain and undrain the app nodes behind nginx
description:
  - Keeps the app nodes and the reason of each drained node in C(/var/lib/anynode/upstream.json). Renders
    C(/etc/nginx/upstream.conf) from it, where a drained node is C(down), and C(/etc/nginx/retry-methods.conf),
    the methods that are retried on another node. The latter is empty while only one node is active.
  - A drained node stays drained until it is undrained, whatever else changes. The last active node is never drained.
  - Tests the configuration and restores the files if nginx rejects it, reloads nginx, and returns when no connection
    to a node that was drained or removed is open, or after C(timeout) seconds.
  - Without options, only reports.
options:
  servers:
    type: dict
    description: "C(address:port) by name of all nodes; replaces the list of nodes, default is no change"
  server_options: {type: str, description: "nginx parameters of each server; default is no change"}
  keep: {type: list, elements: str, description: "Remove the nodes that are not listed, if a listed node is active"}
  drain: {type: list, elements: str, default: [], description: Nodes to drain}
  undrain: {type: list, elements: str, default: [], description: Nodes to undrain}
  undrain_kinds:
    type: list
    elements: str
    description: "Undrain only nodes that were drained with such a C(kind): C(drain), C(deployment) or C(unreachable)"
  addresses: {type: dict, description: "C(address:port) by name; changes only the addresses of nodes in C(undrain)"}
  reason:
    type: dict
    default: {}
    description: "Reason stored with drained nodes: C(kind), C(by), C(since), C(reason), C(deployment)"
  timeout: {type: int, default: 30, description: Seconds to wait until open connections are closed}
author: Anynode
"""

EXAMPLES = r"""
- name: Drain a node
  nginx_upstream:
    drain: [app2]
    reason: {kind: drain, by: ada@desk, since: "2026-11-22T10:00:00Z", reason: replace disk}

- name: Undrain the node, unless an operator drained it
  nginx_upstream:
    undrain: [app2]
    undrain_kinds: [deployment, unreachable]

- name: Query the drained nodes
  nginx_upstream:
  register: result
"""

RETURN = r"""
drained: {type: dict, returned: success, description: Reason by name of each drained node}
nodes: {type: list, elements: str, returned: success, description: Names of all nodes}
last_active:
  type: list
  elements: str
  returned: success
  description: Nodes to drain that stay active because no other node is
open_connections:
  type: int
  returned: success
  description: Connections to drained or removed nodes that are still open after C(timeout)
"""

RELOAD_SECONDS = 15


def active_addresses(nodes: Mapping[str, Server]) -> list[str]:
    """Return the addresses of the nodes that aren't drained."""
    return [server["address"] for _name, server in sorted(nodes.items()) if server["drained"] is None]


def render(state: Upstream) -> str:
    """Return the text of upstream.conf."""
    lines = [f"# Ansible managed: rendered from {STATE}/upstream.json. To change it: playbooks/drain.yml, undrain.yml."]
    active = active_addresses(state["nodes"])
    # With one active node there is no other to retry: nginx must not mark it as failed.
    single = " max_fails=0" if len(active) == 1 else ""
    for name, server in sorted(state["nodes"].items()):
        status = single if server["drained"] is None else " down"
        lines.append(f"server {server['address']} {state['server_options']}{status};  # {name}")
    if len(active) > 1:
        lines.append("# Used when all nodes above are marked as failed, which a slow page alone can cause.")
        lines += [f"server {address} max_fails=0 backup;" for address in active]
    return "\n".join(lines) + "\n"


def render_retry_methods(state: Upstream) -> str:
    """Return the text of retry-methods.conf, a part of a map in nginx.conf."""
    methods = ("GET", "HEAD") if len(active_addresses(state["nodes"])) > 1 else ()
    lines = [f"{method} @retry_another_node;\n" for method in methods]
    return "".join([f"# Ansible managed: rendered from {STATE}/upstream.json.\n", *lines])


def change(
    before: Upstream,
    servers: Mapping[str, str] | None = None,
    server_options: str | None = None,
    keep: Collection[str] | None = None,
    drain: Iterable[str] = (),
    undrain: Collection[str] = (),
    undrain_kinds: Collection[str] | None = None,
    addresses: Mapping[str, str] | None = None,
    reason: Mapping[str, Any] | None = None,
) -> tuple[Upstream, list[str]]:
    """Return the state after a change, and the nodes that stay active because no other node is.

    The parameters are the module's options. Raises NginxError if no node would be active.
    """
    old = before["nodes"]
    nodes: dict[str, Server] = {name: {**server} for name, server in old.items()}
    if servers is not None:
        nodes = {
            name: {"address": address, "drained": old[name]["drained"] if name in old else None}
            for name, address in servers.items()
        }
    if keep is not None and any(nodes[name]["drained"] is None for name in keep if name in nodes):
        nodes = {name: server for name, server in nodes.items() if name in keep}
    for name in set(undrain) & set(nodes):
        server = nodes[name]
        server["address"] = (addresses or {}).get(name, server["address"])
        if undrain_kinds is None or (server["drained"] or {}).get("kind") in undrain_kinds:
            server["drained"] = None
    last_active = []
    for name in drain:
        if name not in nodes or nodes[name]["drained"] is not None:
            continue  # the first reason stays
        if [each for each, server in nodes.items() if server["drained"] is None] == [name]:
            last_active.append(name)
        else:
            nodes[name]["drained"] = dict(reason or {})
    if nodes and not active_addresses(nodes):
        raise NginxError(
            f"No node would be active behind the balancer: {', '.join(nodes)} are drained."
            " Undrain a node first: ansible-playbook playbooks/undrain.yml -e node=NAME"
        )
    options = before["server_options"] if server_options is None else server_options
    return {"nodes": nodes, "server_options": options}, last_active


def worker_pids() -> set[str]:
    """Return the process ids of the nginx workers that accept connections."""
    master = (read(Path("/run/nginx.pid")) or "").strip() or "1"
    _status, output = run("ps", "--ppid", master, "-o", "pid=,args=")
    lines = [line.split(None, 1) for line in output.splitlines() if line.strip()]
    return {pid for pid, args in lines if args.startswith("nginx: worker process") and "shutting down" not in args}


def reload() -> None:
    """Reload nginx and return when new workers have replaced the old. Raises NginxError after RELOAD_SECONDS."""
    old = worker_pids()
    status, output = run("systemctl", "reload", "nginx")
    if status:
        raise NginxError(f"nginx can't be reloaded: {output}")
    end = time.monotonic() + RELOAD_SECONDS
    while not (new := worker_pids()) or new & old:
        if time.monotonic() > end:
            raise NginxError(f"nginx has not loaded the change after {RELOAD_SECONDS} s: journalctl -u nginx")
        time.sleep(0.05)


def addresses_to_close(before: Upstream, after: Upstream, drain: Collection[str]) -> list[str]:
    """Return the addresses whose connections must close.

    These are active nodes that this change drains or removes, and nodes in `drain` that were drained before.
    """
    old, new = before["nodes"], after["nodes"]
    inactive = {name for name in old if name not in new or new[name]["drained"] is not None}
    return [old[name]["address"] for name in inactive if old[name]["drained"] is None or name in drain]


def open_connections(addresses: Iterable[str]) -> int:
    """Return the number of open connections to these addresses (`host:port`). Raises NginxError if `ss` fails."""
    count = 0
    for address in addresses:
        host, port = address.rsplit(":", 1)
        status, output = run("ss", "-Htn", "state", "established", f"dst {host} and dport = :{port}")
        if status:
            raise NginxError(f"nginx has loaded the change, but ss can't list the connections to {address}: {output}")
        count += len(output.splitlines())
    return count


def wait_until_closed(addresses: Collection[str], timeout: float) -> int:
    """Wait until no connection to the addresses is open; return the number still open after `timeout` seconds."""
    end = time.monotonic() + timeout
    while (count := open_connections(addresses)) and time.monotonic() < end:
        time.sleep(0.1)
    return count


def apply(check_mode: bool, timeout: float, **options: Any) -> dict[str, Any]:
    """Change the state and the files, and let nginx load them; return the module's result.

    timeout: seconds to wait for open connections. options: parameters of change(). Raises NginxError.
    """
    only_report = not any(options.get(name) for name in ("drain", "undrain")) and all(
        options.get(name) is None for name in ("servers", "server_options", "keep")
    )
    config, count, changed = CONFIG / "upstream.conf", 0, False
    # The copy differs if an earlier run was interrupted before nginx had loaded the file.
    loaded_copy = config.with_name("upstream.conf.loaded")
    before = read_upstream()
    after, last_active = (before, []) if only_report else change(before, **options)
    files = [
        File(STATE / "upstream.json", dump(after)),
        File(config, render(after)),
        File(CONFIG / "retry-methods.conf", render_retry_methods(after)),
    ]
    if not only_report and (before["nodes"] or after["nodes"]):
        is_active = run("systemctl", "is-active", "--quiet", "nginx")[0] == 0
        changed = read(loaded_copy) != render(after) or any(is_outdated(file) for file in files)
        if changed and not check_mode:
            install(files)
            if is_active:
                reload()
            write_atomically(loaded_copy, render(after))
        # Also without a change: an earlier run may have been interrupted, or its timeout may have been over.
        if is_active and not check_mode:
            count = wait_until_closed(addresses_to_close(before, after, options.get("drain", ())), timeout)
    return {
        "changed": changed,
        "diff": {"before_header": str(STATE / "upstream.json"), "before": dump(before), "after": dump(after)},
        "drained": {name: each["drained"] for name, each in after["nodes"].items() if each["drained"] is not None},
        "nodes": sorted(after["nodes"]),
        "last_active": last_active,
        "open_connections": count,
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "servers": {"type": "dict"},
            "server_options": {"type": "str"},
            "keep": {"type": "list", "elements": "str"},
            "drain": {"type": "list", "elements": "str", "default": []},
            "undrain": {"type": "list", "elements": "str", "default": []},
            "undrain_kinds": {"type": "list", "elements": "str"},
            "addresses": {"type": "dict"},
            "reason": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        result = apply(module.check_mode, **module.params)
    except NginxError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
