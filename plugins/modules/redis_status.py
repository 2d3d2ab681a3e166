#!/usr/bin/python
"""Says how Redis is: version, memory, persistence, clients, and how many sessions it keeps."""

import socket
import ssl

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: redis_status
short_description: version, memory, persistence, clients and sessions of Redis
description:
  - Counts sessions with SCAN, which lets others through between its steps, and looks at so many keys at most. If there
    are more, the share of sessions among those that it saw gives a good guess, since SCAN gives keys in no order.
options:
  host: {type: str, default: 127.0.0.1, description: address of Redis}
  port: {type: int, required: true, description: its port}
  ca_file: {type: path, required: true, description: certificates that its own is verified with}
  username: {type: str, required: true, description: an account that may ask}
  password: {type: str, required: true, description: its password}
  sessions: {type: str, required: true, description: how the keys of sessions begin}
  keys: {type: int, default: 100000, description: so many keys are looked at}
  seconds: {type: float, default: 3, description: how long to wait for each answer}
"""

BATCH = 1000
FIGURES = ("used_memory", "maxmemory", "connected_clients", "uptime_in_seconds", "evicted_keys", "expired_keys")
WORDS = ("redis_version", "aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
FLAGS = ("aof_enabled", "loading")


class Unwell(Exception):
    """Redis can't be asked, in its own words."""


class Redis:
    """Says a few commands to Redis; replies are bytes, numbers, or lists of these."""

    def __init__(self, host, port, seconds, ca_file):
        tls = ssl.create_default_context(cafile=ca_file)
        self.socket = tls.wrap_socket(socket.create_connection((host, port), timeout=seconds), server_hostname=host)
        self.stream = self.socket.makefile("rwb")

    def ask(self, *words):
        """Return the reply to a command; Unwell if it is an error."""
        parts = [str(word).encode() for word in words]
        self.stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self.stream.flush()
        return self.reply()

    def reply(self):
        """Read one reply."""
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise Unwell("it hung up")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Unwell(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest


def parse_info(text):
    """Return what INFO says that is of interest here."""
    said = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    told = {name: int(said[name]) for name in FIGURES if name in said}
    told |= {name: said[name] for name in WORDS if name in said}
    return told | {name: said[name] == "1" for name in FLAGS if name in said}


def count(redis, prefix, limit):
    """Return how many keys begin with `prefix`, and whether all keys were seen."""
    cursor, seen, found = b"0", 0, set()
    size = redis.ask("DBSIZE")
    pattern = prefix.encode()
    while True:
        cursor, keys = redis.ask("SCAN", cursor.decode(), "COUNT", BATCH)
        seen += len(keys)
        found |= {key for key in keys if key.startswith(pattern)}  # SCAN may give one twice
        if cursor == b"0":
            return len(found), True
        if seen >= limit:
            return round(size * len(found) / seen), False


def status(args):
    """Return how Redis is."""
    try:
        redis = Redis(args["host"], args["port"], args["seconds"], args["ca_file"])
        redis.ask("AUTH", args["username"], args["password"])
        told = parse_info(redis.ask("INFO").decode())
        if told.get("loading"):
            return told | {"state": "not ready", "why": "it reads its file"}
        told["appendfsync"] = redis.ask("CONFIG", "GET", "appendfsync")[1].decode()
        told["sessions"], told["sessions_counted"] = count(redis, args["sessions"], args["keys"])
    except (OSError, Unwell) as error:
        return {"state": "not ready", "why": str(error)}
    return told | {"state": "ready", "why": ""}


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "required": True},
            "ca_file": {"type": "path", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "sessions": {"type": "str", "required": True},
            "keys": {"type": "int", "default": 100000},
            "seconds": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **status(module.params))


if __name__ == "__main__":
    main()
