"""Commands that an ACL user of Redis may run, from the list of commands and the ACL check of Redis itself."""

import json
from collections.abc import Callable

# Every client may run these, to authenticate or to disconnect.
UNRESTRICTED = {"auth", "hello", "quit", "reset"}
# Commands that must fail with a stolen password of the app, each on a line.
FORBIDDEN = """\
keys *
flushall
flushdb
config get *
config set dir /tmp
monitor
script flush
eval "return 1" 0
function list
debug jmap
shutdown nosave
acl list
client list
info
replicaof no one
migrate 127.0.0.1 1 anynode:x 0 1
publish anynode:x x
get anynode:x
hget other:x f
del other:x
rename anynode:x other:x
"""
REFUSALS = ("NOPERM", "ERR DEBUG command not allowed")  # DEBUG is disabled, which Redis checks before permissions


def replies(output: str) -> list[str]:
    """Return the replies in the output of redis-cli, which adds an empty line to an error."""
    return [line for line in output.splitlines() if line]


def allowed(redis_cli: Callable[[str, str], str], user: str, key: str) -> set[str]:
    """Return the commands that an ACL user may run, subcommands as "config|get".

    redis_cli: called with arguments and lines to run as an administrator; returns the output of redis-cli. key: a key
    that the ACL user may access, so that only the commands are checked.
    """
    arities: dict[str, int] = {}
    for name, arity, *rest in json.loads(redis_cli("--json command info", "")):
        subcommands = rest[-1]
        # a command with subcommands can't run by itself
        arities |= {each[0]: each[1] for each in subcommands} if subcommands else {name: arity}
    lines = []
    for name, arity in arities.items():
        words = name.split("|")
        lines.append(" ".join(["acl", "dryrun", user, *words, *[key] * (abs(arity) - len(words))]))
    results = redis_cli("", "\n".join(lines) + "\n").splitlines()
    assert len(results) == len(lines), results
    for name, reply in zip(arities, results, strict=True):
        assert reply == "OK" or f"no permissions to run the '{name}'" in reply, f"{name}: {reply}"
    return {name for name, reply in zip(arities, results, strict=True) if reply == "OK"}
