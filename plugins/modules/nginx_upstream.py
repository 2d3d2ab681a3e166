#!/usr/bin/python
"""Says which app nodes nginx sends visitors to, and which ones are out, by whom and why."""

import json
import re
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nginx_upstream
short_description: the nodes behind the balancer, and those that are out for a while
description:
  - Keeps one file that nginx includes, a line for each node. A node that is out is C(down) there; a comment on its
    line says who took it out, since when and why, and stays until it is put back, whatever else changes.
  - Beside it, C(upstream-reads.conf) names the methods that are soon asked of another node. It is empty while one node
    is in alone.
  - nginx tries the file before it is loaded, is reloaded, and old workers finish what they hold; the module returns
    once no connection to a node that left is open, or when C(timeout) are over.
  - The last node that is in is never taken out.
options:
  path: {type: path, default: /etc/nginx/upstream.conf, description: the file}
  servers: {type: dict, description: "C(address:port) by name of all nodes; default: those that the file lists"}
  server_options: {type: str, description: "nginx's parameters of each server; default: as they are"}
  keep: {type: list, elements: str, description: "let go of nodes that are not among these, if one of them is in"}
  drain: {type: list, elements: str, default: [], description: nodes to take out}
  undrain: {type: list, elements: str, default: [], description: nodes to put back}
  undrain_kinds: {type: list, elements: str, description: "put back only who has such a C(kind) in the reason; default: anyone"}
  addresses: {type: dict, description: "C(address:port) by name; those of nodes that are put back are written down"}
  reason: {type: dict, default: {}, description: "who took the nodes out, since when, why; kept with them"}
  timeout: {type: int, default: 30, description: how long what is in flight may take}
"""

LINE = re.compile(
    r"server (?P<address>\S+) (?P<server_options>.*?)(?: max_fails=0)?(?P<down> down)?;"
    r" +# (?P<name>\S+)(?: out: (?P<reason>\{.*\}))?"
)
RELOAD_SECONDS = 15


class Refused(Exception):
    """Nothing was changed; the message names the culprit and the remedy."""


def parse(text):
    """Return the servers by name: address, server_options, and the reason of one that is out, else None."""
    servers = {}
    for line in text.splitlines():
        found = LINE.fullmatch(line.strip())
        if not found and not re.fullmatch(r"(#.*|server \S+ max_fails=0 backup;)?", line.strip()):
            raise Refused(f"Whose line is this in nginx's list of nodes: {line.strip()} Let it end with '  # NAME'.")
        if found:
            reason = json.loads(found["reason"] or "{}") if found["down"] else None
            servers[found["name"]] = {
                "address": found["address"],
                "server_options": found["server_options"],
                "drained": reason,
            }
    return servers


def inside(servers):
    """Return the addresses of the nodes that are in."""
    return [server["address"] for server in servers.values() if server["drained"] is None]


def render(servers):
    """Return the file's text: what parse() reads, and where to go if nginx takes all nodes for failed."""
    lines = ["# Managed by Ansible: which nodes are in, and who took one out (playbooks/drain.yml, undrain.yml)."]
    addresses = inside(servers)
    alone = " max_fails=0" if len(addresses) == 1 else ""  # there is nobody else to ask
    for name, server in servers.items():
        out = server["drained"]
        state, reason = (alone, "") if out is None else (" down", " out: " + json.dumps(out, sort_keys=True))
        lines.append(f"server {server['address']} {server['server_options']}{state};  # {name}{reason}")
    if len(addresses) > 1:
        lines.append(
            "# Whoever fails too often is left out for a while. If all are, which a slow page can do, all are asked."
        )
        lines += [f"server {address} max_fails=0 backup;" for address in addresses]
    return "\n".join(lines) + "\n"


def render_reads(servers):
    """Return the text of the part of a map in nginx.conf: which methods can be asked of another node."""
    methods = ("GET", "HEAD") if len(inside(servers)) > 1 else ()
    return "".join(["# Managed by Ansible, with upstream.conf.\n", *(f"{method} @hasty;\n" for method in methods)])


def change(
    before,
    servers=None,
    server_options=None,
    keep=None,
    drain=(),
    undrain=(),
    undrain_kinds=None,
    reason=None,
    addresses=None,
):
    """Return what becomes of the servers in `before`, and those that stay in since they are the last."""
    if servers is None:
        after = {name: dict(server) for name, server in before.items()}
    else:
        outs = {name: server["drained"] for name, server in before.items()}
        after = {
            name: {"address": address, "server_options": "", "drained": outs.get(name)}
            for name, address in servers.items()
        }
    if keep is not None and any(after[name]["drained"] is None for name in keep if name in after):
        after = {name: server for name, server in after.items() if name in keep}
    for name, server in after.items():
        server["server_options"] = (
            before.get(name, server)["server_options"] if server_options is None else server_options
        )
        if name in undrain:
            server["address"] = (addresses or {}).get(name, server["address"])
            if server["drained"] is not None and (
                undrain_kinds is None or server["drained"].get("kind") in undrain_kinds
            ):
                server["drained"] = None
    alone = []
    for name in drain:
        if name not in after or after[name]["drained"] is not None:
            continue  # who took it out first, and why, stays
        if [each for each, server in after.items() if server["drained"] is None] == [name]:
            alone.append(name)
        else:
            after[name]["drained"] = dict(reason or {})
    if after and all(server["drained"] is not None for server in after.values()):
        raise Refused(
            f"No node would be left behind the balancer: {', '.join(after)} are out."
            " Put one back first: ansible-playbook playbooks/undrain.yml -e node=NAME"
        )
    return after, alone


def run(*command):
    """Run a command; return its exit status and all that it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def read(path):
    """Return the file's text, or None if there is no such file."""
    return path.read_text() if path.exists() else None


def write(path, text):
    """Replace the file in one rename."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.chmod(0o644)
    partial.rename(path)


def land(texts):
    """Write the files, given by path, unless nginx refuses the configuration with them."""
    before = {path: read(path) for path in texts}
    for path, text in texts.items():
        write(path, text)
    status, said = run("/usr/sbin/nginx", "-t")
    if status:
        for path, text in before.items():
            if text is None:
                path.unlink()
            else:
                write(path, text)
        raise Refused(f"nginx refuses {' with '.join(map(str, texts))}; all is as it was before. {said}")


def workers():
    """Return the ids of nginx's workers that accept connections."""
    master = (read(Path("/run/nginx.pid")) or "").strip() or "1"
    _status, listed = run("ps", "--ppid", master, "-o", "pid=,args=")
    lines = [line.split(None, 1) for line in listed.splitlines() if line.strip()]
    return {pid for pid, args in lines if args.startswith("nginx: worker process") and "shutting down" not in args}


def reload():
    """Make nginx load its configuration; return when new workers have taken the old ones' place."""
    old = workers()
    status, said = run("systemctl", "reload", "nginx")
    if status:
        raise Refused(f"nginx does not reload: {said}")
    end = time.monotonic() + RELOAD_SECONDS
    while not (new := workers()) or new & old:
        if time.monotonic() > end:
            raise Refused(f"nginx has not loaded the change after {RELOAD_SECONDS} s: journalctl -u nginx")
        time.sleep(0.05)


def open_connections(addresses):
    """Return the number of open connections to these addresses."""
    count = 0
    for address in addresses:
        host, port = address.rsplit(":", 1)
        status, listed = run("ss", "-Htn", "state", "established", f"dst {host} and dport = :{port}")
        if status:
            raise Refused(f"nginx has loaded the change, but ss can't tell what is in flight to {address}: {listed}")
        count += len(listed.splitlines())
    return count


def gone(before, after, drain):
    """Return the addresses to which nothing new is sent: of nodes that were in, or were to be taken out."""
    outs = {name for name in before if name not in after or after[name]["drained"] is not None}
    return [before[name]["address"] for name in outs if before[name]["drained"] is None or name in drain]


def wait_until_idle(addresses, seconds):
    """Wait until no connection to these addresses is open; return the number of those that are, after `seconds`."""
    end = time.monotonic() + seconds
    while (left := open_connections(addresses)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/nginx/upstream.conf"},
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
    args = module.params
    path = Path(args["path"])
    text = read(path) or ""
    left = 0
    try:
        before = parse(text)
        after, alone = change(before, **{key: args[key] for key in args if key not in ("path", "timeout")})
        is_active = run("systemctl", "is-active", "--quiet", "nginx")[0] == 0
        # Whoever was cut off before nginx loaded the file left the copy as it was.
        loaded = path.with_name(path.name + ".loaded")
        texts = {path: render(after), path.with_name("upstream-reads.conf"): render_reads(after)}
        changed = bool(text or after) and (read(loaded) != text or any(read(each) != texts[each] for each in texts))
        if changed and not module.check_mode:
            land(texts)
            if is_active:
                reload()
            write(loaded, render(after))
        # Also if nothing changed: an earlier run may have been cut off, or have had no more patience.
        if is_active and not module.check_mode:
            left = wait_until_idle(gone(before, after, args["drain"]), args["timeout"])
    except Refused as refused:
        module.fail_json(msg=str(refused))
    module.exit_json(
        changed=changed,
        diff={"before_header": str(path), "before": text, "after": render(after) if changed else text},
        drained={name: server["drained"] for name, server in after.items() if server["drained"] is not None},
        nodes=list(after),
        last_active=alone,
        open_connections=left,
    )


if __name__ == "__main__":
    main()
