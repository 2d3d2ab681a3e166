"""Secrets: none may be guessed, and each has one value in the whole cluster. No message shows a value."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.anynode.validation import Hosts, names

# A text that consists of such words and of no others: a random one may well contain "xxx" or "todo".
# app/src/anynode/config.py has the same rule; tests/unit/test_secret_rules.py compares the two.
WORDS = """
    change me placeholder password passwort passwd secret example sample dummy default todo tbd fixme x{3,} replace
    insert enter put set your my our the this that is here please now random value key token string app redis admin
    chars? characters? long very at least with
"""
PLACEHOLDER = re.compile(rf"<.*>|[^a-z]*(?:(?:{'|'.join(WORDS.split())})[^a-z]*)+", re.IGNORECASE)
# By the `characters` of the table of secrets: pattern, and the reason for it.
CHARACTERS = {
    "printable": (
        r"[\x21\x23-\x26\x28-\x5b\x5d-\x7e]+",
        "has characters that a file of environment variables can't hold (quotes, spaces, backslashes)",
    ),
    "url": (
        r"[A-Za-z0-9_-]{1,128}",
        "has characters that can't be part of a URL; it may have letters, digits, - and _, 128 at most",
    ),
}


def secret_problem(value: Any, rule: Mapping[str, Any]) -> str | None:
    """Return why a value is refused, without the value; None if it is accepted.

    rule: the secret's entry of the table `topology_secrets`.
    """
    text = str(value or "")
    if not text:
        return "is empty"
    if not isinstance(value, str | int):
        return "is not a text"
    if PLACEHOLDER.fullmatch(text):
        return "looks like a placeholder"
    if len(text) < rule["min_length"]:
        return f"has {len(text)} characters; it needs {rule['min_length']}"
    for characters in ("printable", rule.get("characters", "printable")):
        pattern, reason = CHARACTERS[characters]
        if not re.fullmatch(pattern, text):
            return reason
    return None


def secret_errors(
    table: Mapping[str, Mapping[str, Any]], hosts: Hosts, stored: Mapping[str, str], secrets_dir: str
) -> Iterator[str]:
    """Check the secrets that hosts define, and those that are stored in files of `secrets_dir`.

    table: rules by name of the secret. stored: contents of the files that exist, by name.
    """
    for name, rule in table.items():
        values = {host: variables[name] for host, variables in hosts.items() if name in variables}
        if not values and name in stored and (problem := secret_problem(stored[name], rule)):
            yield f"The secret `{name}` in {secrets_dir}/{name} {problem}. Remove the file to get a random value."
        for problem, affected in problems(values, rule).items():
            yield f"The secret `{name}` (set for {names(affected)}) {problem}. Undefine it to get a random value."
        fallbacks = f"{name}_fallbacks"
        for host, variables in hosts.items():
            given = variables.get(fallbacks, [])
            if not isinstance(given, list):
                yield f"The secret `{fallbacks}` (set for {host}) is not a list. Write it as one."
                continue
            for problem in filter(None, (secret_problem(value, rule) for value in given)):
                yield f"The secret `{fallbacks}` (set for {host}) {problem}. Remove it from the list."
        expected = stored.get(name) if len(values) < len(hosts) else next(iter(values.values()), None)
        differing = [host for host, value in values.items() if value != expected]
        if differing:
            yield (
                f"The secret `{name}` that is set for {names(differing)} differs from the value of the other hosts."
                " Define it for all hosts, in group_vars/all."
            )


def directory_errors(directories: Mapping[str, str]) -> Iterator[str]:
    """All hosts need the same secrets. directories: of the secrets, by host."""
    hosts: dict[str, list[str]] = {}
    for host, directory in directories.items():
        hosts.setdefault(directory, []).append(host)
    if len(hosts) > 1:
        found = ", ".join(f"{directory} ({names(seen)})" for directory, seen in hosts.items())
        yield (
            f"The hosts have several directories of secrets: {found}, as with two inventories. Hosts with different"
            " secrets are no cluster. Put all hosts into one inventory, or name the directory for all of them:"
            f" -e topology_secrets_dir={next(iter(hosts))}"
        )


def problems(values: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the affected hosts by problem."""
    found: dict[str, list[str]] = {}
    for host, value in values.items():
        if problem := secret_problem(value, rule):
            found.setdefault(problem, []).append(host)
    return found
