#!/usr/bin/python
"""Apply ACL users and certificate to a running Redis, which reads both only when it starts."""

import os
import ssl
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.redis import Redis, RedisError
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: redis_reconfigure
short_description: apply ACL users and certificate to a running Redis without closing connections
description:
  - C(configured) applies the ACL users of a file and the certificate that is in place. If Redis can't be reconfigured,
    because its certificate has expired or the CA or the admin password has changed, it is restarted.
  - C(stale_connections_closed) closes connections that were authenticated before the ACL users changed.
options:
  state:
    type: str
    choices: [configured, stale_connections_closed]
    default: configured
    description: requested state
  port:
    type: int
    required: true
    description: port of Redis on 127.0.0.1
  ca_file:
    type: path
    required: true
    description: certificates that verify that of Redis
  username:
    type: str
    required: true
    description: ACL user with the permissions of an administrator
  passwords:
    type: list
    elements: str
    required: true
    description: its passwords, in the order in which they are tried
  acl_file:
    type: path
    required: true
    description: file with an ACL user per line; its modification time is that of the latest change
  certificate:
    type: path
    description: certificate file; required for C(configured)
  key:
    type: path
    description: key file of the certificate; required for C(configured)
  unit:
    type: str
    default: redis-server.service
    description: unit to restart
"""

EXAMPLES = r"""
- name: Apply ACL users and certificate
  redis_reconfigure:
    port: 6379
    ca_file: /etc/anynode/tls/ca.crt
    username: admin
    passwords: ["{{ redis_admin_password }}"]
    acl_file: /etc/redis/users.acl
    certificate: /etc/anynode/tls/redis.crt
    key: /etc/anynode/tls/redis.key
"""

RETURN = r"""
restarted:
  description: reason for the restart of Redis, empty without a restart
  type: str
  returned: with C(configured)
closed:
  description: number of closed connections
  type: int
  returned: with C(stale_connections_closed)
"""


def apply_acl(redis: Redis, acl_file: Path) -> bool:
    """Apply the ACL users of a file, and delete all others; return whether that changed any.

    Not with ACL LOAD: before Redis 8 it closes all connections. A user's SETUSER takes effect as a whole or not at all.
    Raises RedisError.
    """
    before = redis.query("ACL", "LIST")
    wanted = [line.split()[1:] for line in acl_file.read_text().splitlines() if line.startswith("user ")]
    for name, *rules in wanted:
        redis.query("ACL", "SETUSER", name, "reset", *rules)
    for name in set(redis.query("ACL", "USERS")) - {name for name, *_ in wanted}:
        redis.query("ACL", "DELUSER", name)
    changed = bool(before != redis.query("ACL", "LIST"))
    if changed:
        os.utime(acl_file)  # connections that are older are stale
    return changed


def apply_certificate(redis: Redis, port: int, certificate: Path, key: str) -> bool:
    """Let Redis present a certificate; return whether it presented another certificate.

    The presented certificate counts: an interrupted run may have replaced the file only. Raises RedisError, OSError.
    """
    presented = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=5))
    text = certificate.read_text()
    first = text[: text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]
    if presented == ssl.PEM_cert_to_DER_cert(first[first.index(ssl.PEM_HEADER) :]):
        return False
    redis.query("CONFIG", "SET", "tls-cert-file", str(certificate), "tls-key-file", key)
    return True


def close_stale_connections(redis: Redis, acl_file: Path) -> int:
    """Close connections that were authenticated before the ACL users changed; return their number.

    Their passwords may have been retired. Raises RedisError.
    """
    age = int(time.time()) - int(acl_file.stat().st_mtime)
    closed = 0
    for line in redis.query("CLIENT", "LIST").splitlines():
        client = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if client["user"] != "default" and int(client["age"]) >= age:
            closed += redis.query("CLIENT", "KILL", "ID", client["id"])  # 0 for this connection, and if it is closed
    return closed


def main() -> None:
    """Run as an Ansible module."""
    states = ["configured", "stale_connections_closed"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": states, "default": states[0]},
            "port": {"type": "int", "required": True},
            "ca_file": {"type": "path", "required": True},
            "username": {"type": "str", "required": True},
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "acl_file": {"type": "path", "required": True},
            "certificate": {"type": "path"},
            "key": {"type": "path", "no_log": False},
            "unit": {"type": "str", "default": "redis-server.service"},
        },
        required_if=[("state", "configured", ["certificate", "key"])],
    )
    args: dict[str, Any] = module.params
    acl_file = Path(args["acl_file"])

    def connect() -> Redis:
        return Redis(args["port"], args["username"], args["passwords"], ca_file=args["ca_file"])

    try:
        if args["state"] != "configured":
            with connect() as redis:
                closed = close_stale_connections(redis, acl_file)
            module.exit_json(changed=closed > 0, closed=closed)
        with connect() as redis:
            changed = apply_acl(redis, acl_file)
            changed |= apply_certificate(redis, args["port"], Path(args["certificate"]), args["key"])
        module.exit_json(changed=changed, restarted="")
    except (RedisError, OSError, ValueError) as error:
        if args["state"] != "configured":
            module.fail_json(msg=f"Stale connections of Redis were not closed: {error}")
        module.run_command(["systemctl", "restart", args["unit"]], check_rc=True)
        module.exit_json(changed=True, restarted=str(error))


if __name__ == "__main__":
    main()
