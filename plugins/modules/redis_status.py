#!/usr/bin/python
"""Report the status of Redis: version, memory, persistence, clients, number of sessions."""

from collections.abc import Callable
from typing import Any, Protocol

from ansible.module_utils.anynode.redis import Redis, RedisError
from ansible.module_utils.anynode.units import LOG_OPTIONS, UNITS_OPTION, Run, last_message, messages, pending, remedy
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: redis_status
short_description: report version, memory, persistence, clients and sessions of Redis
description:
  - Read-only. Counts sessions with SCAN, which lets other commands through between its steps, and reads at most
    C(keys) keys. If there are more, the number is estimated from the share of sessions among them, since SCAN returns
    keys in no order.
options:
  port:
    type: int
    required: true
    description: TLS port of Redis on 127.0.0.1
  ca_file:
    type: path
    required: true
    description: certificates that verify that of Redis
  username:
    type: str
    required: true
    description: ACL user that may run INFO, CONFIG GET, DBSIZE and SCAN
  passwords:
    type: list
    elements: str
    required: true
    description: its passwords, in the order in which they are tried
  sessions:
    type: str
    required: true
    description: prefix of the keys of sessions
  keys:
    type: int
    default: 100000
    description: highest number of keys that are read
  seconds:
    type: float
    default: 3
    description: timeout of each reply, in seconds
  unit:
    type: str
    required: true
    description: systemd unit of Redis; if Redis can't be reached, its last message is part of the reason
  units:
    type: list
    elements: dict
    default: []
    description: units with the files that they read, as of the module unit_outdated
    suboptions:
      name: {type: str, required: true, description: name of the unit}
      paths: {type: list, elements: path, required: true, description: files that the unit reads}
      since:
        type: str
        default: ExecMainStartTimestamp
        choices: [ExecMainStartTimestamp, ActiveEnterTimestamp, StateChangeTimestamp]
        description: property of the unit with the time at which it last read the files
  log_files:
    type: list
    elements: path
    default: []
    description: files to which Redis writes messages, beside the journal
  remedies:
    type: dict
    default: {}
    description: remedies by regular expression that finds their cause in a message
"""

EXAMPLES = r"""
- name: Query Redis
  redis_status:
    port: 6379
    ca_file: /etc/anynode/tls/ca.crt
    username: admin
    passwords: ["{{ redis_admin_password }}"]
    sessions: "anynode:session:"
    unit: redis-server.service
  register: redis
"""

RETURN = r"""
status:
  description: >-
    C(state) is C(ready) or C(not ready), then with a C(reason). C(sessions) is exact if C(sessions_counted).
    C(pending) lists files that changed after their unit had read them. The other values are those of INFO and CONFIG.
  type: dict
  returned: always
  sample: {state: ready, reason: "", redis_version: 8.0.2, used_memory: 1500000, sessions: 12, sessions_counted: true}
"""

BATCH = 1000
UNREACHABLE = "Could not connect"  # in messages of redis-cli
NUMBERS = ("used_memory", "maxmemory", "connected_clients", "uptime_in_seconds", "evicted_keys", "expired_keys")
TEXTS = ("redis_version", "aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
FLAGS = ("aof_enabled", "loading")


class Client(Protocol):
    """A connection to Redis."""

    def query(self, *words: str | int) -> Any:
        """Return the reply to a command."""


def parse_info(text: str) -> dict[str, Any]:
    """Return the reported values of a reply to INFO."""
    info = dict(line.strip().split(":", 1) for line in text.splitlines() if ":" in line)
    found: dict[str, Any] = {name: int(info[name]) for name in NUMBERS if name in info}
    found |= {name: info[name] for name in TEXTS if name in info}
    return found | {name: info[name] == "1" for name in FLAGS if name in info}


def count(redis: Client, prefix: str, limit: int) -> tuple[int, bool]:
    """Return the number of keys with a prefix, and whether it is exact. limit: highest number of keys to read."""
    cursor, seen = "0", 0
    found: set[str] = set()
    size = redis.query("DBSIZE")
    while True:
        cursor, keys = redis.query("SCAN", cursor, "COUNT", BATCH)
        seen += len(keys)
        found |= {key for key in keys if key.startswith(prefix)}  # SCAN may return a key twice
        if cursor == "0":
            return len(found), True
        if seen >= limit:
            return round(size * len(found) / seen), False


def cause(run: Run, args: dict[str, Any]) -> list[str]:
    """Return what is known about a Redis that doesn't run: its last message, and the remedy."""
    found = messages(run, args["unit"], args["log_files"])
    return [*last_message(found), *filter(None, [remedy(found, args["remedies"])])]


def status(args: dict[str, Any], cause: Callable[[], list[str]]) -> dict[str, Any]:
    """Return the status of Redis. cause: returns what is known about a Redis that can't be reached."""
    try:
        with Redis(
            args["port"], args["username"], args["passwords"], ca_file=args["ca_file"], timeout=args["seconds"]
        ) as redis:
            found = parse_info(redis.query("INFO"))
            if found.get("loading"):
                return found | {"state": "not ready", "reason": "it is loading its data"}
            found["appendfsync"] = redis.query("CONFIG", "GET", "appendfsync")[1]
            found["sessions"], found["sessions_counted"] = count(redis, args["sessions"], args["keys"])
    except (OSError, RedisError) as error:
        reasons = [str(error), *(cause() if UNREACHABLE in str(error) else [])]
        return {"state": "not ready", "reason": "; ".join(reasons)}
    return found | {"state": "ready", "reason": ""}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "required": True},
            "ca_file": {"type": "path", "required": True},
            "username": {"type": "str", "required": True},
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "sessions": {"type": "str", "required": True},
            "keys": {"type": "int", "default": 100000},
            "seconds": {"type": "float", "default": 3},
            "unit": {"type": "str", "required": True},
            "units": UNITS_OPTION | {"default": []},
            **LOG_OPTIONS,
        },
        supports_check_mode=True,
    )
    args = module.params
    found = status(args, lambda: cause(module.run_command, args))
    module.exit_json(changed=False, status=found | {"pending": pending(module.run_command, args["units"])})


if __name__ == "__main__":
    main()
