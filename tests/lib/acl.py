"""What an account of Redis may run, by Redis's own list of commands and its own judgement."""

import json

# Redis lets anybody run these: they are how somebody says who they are, or leaves.
ANYBODY = {"auth", "hello", "quit", "reset"}
# What a stolen password of the app's must be worth nothing for, a command a line.
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
REFUSALS = ("NOPERM", "ERR DEBUG command not allowed")  # DEBUG is switched off before anybody's rights are looked at


def replies(printed):
    """The replies in what redis-cli printed, which adds an empty line to an error."""
    return [line for line in printed.splitlines() if line]


def allowed(redis_cli, user, key):
    """The commands that an account may run, subcommands as "config|get".

    redis_cli: given arguments, and lines to run, it returns what redis-cli prints, as somebody who may ask. key: one
    that the account may touch, since only commands are asked about here.
    """
    arities = {}
    for name, arity, *rest in json.loads(redis_cli("--json command info", "")):
        subcommands = rest[-1]
        # a container is no command by itself
        arities |= {each[0]: each[1] for each in subcommands} if subcommands else {name: arity}
    lines = []
    for name, arity in arities.items():
        words = name.split("|")
        lines.append(" ".join(["acl", "dryrun", user, *words, *[key] * (abs(arity) - len(words))]))
    replies = redis_cli("", "\n".join(lines) + "\n").splitlines()
    assert len(replies) == len(lines), replies
    for name, reply in zip(arities, replies, strict=True):
        assert reply == "OK" or f"no permissions to run the '{name}'" in reply, f"{name}: {reply}"
    return {name for name, reply in zip(arities, replies, strict=True) if reply == "OK"}
