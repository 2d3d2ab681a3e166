"""testssl.sh, from outside, with the default TLS profile."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lib.cluster import Cluster

if TYPE_CHECKING:
    from .conftest import Attacker

INSTALL = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends testssl.sh"
# Two scans at once: protocols, ciphers, forward secrecy, preferences, certificate, headers; known attacks. Not the
# simulation of browsers.
PARTS = ("-p -s -f -P -S -h", "-U")


def test_testssl_finds_nothing_above_low(cluster: Cluster, attacker: Attacker) -> None:
    """And the scan is complete."""
    attacker.run(INSTALL)
    ca = cluster.inventory.parent / ".secrets" / "ca.crt"
    attacker.run(f"cat > /ca.crt <<'END'\n{ca.read_text()}\nEND")

    def scan(parts: str) -> list[dict[str, str]]:
        file = f"/found{parts.replace(' ', '')}.json"
        options = f"--quiet --color 0 --warnings batch --add-ca /ca.crt --jsonfile {file} {parts}"
        # its exit code counts findings of any kind
        output = attacker.run(f"rm -f {file}; testssl {options} https://{attacker.victim}/ </dev/null || true")
        found: list[dict[str, str]] = json.loads(attacker.run(f"cat {file}"))
        assert len(found) > 20, output
        return found

    with ThreadPoolExecutor(len(PARTS)) as pool:
        found = [each for part in pool.map(scan, PARTS) for each in part]
    assert len(found) > 100
    assert [each for each in found if each["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")] == []
    assert {each["severity"] for each in found if each["id"] == "cert_chain_of_trust"} == {"OK"}
