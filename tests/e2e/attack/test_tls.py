"""testssl.sh, from outside, with the profile that is the default."""

import json

INSTALL = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends testssl.sh"
# Protocols, ciphers, forward secrecy, preferences, certificate, headers, known attacks; not what each browser gets.
PARTS = "-p -s -f -P -S -h -U"


def test_testssl_finds_nothing_above_low(cluster, attacker):
    """Nor anything that it could not find out."""
    attacker.run(INSTALL)
    ca = cluster.inventory.parent / ".secrets" / "ca.crt"
    attacker.run(f"cat > /ca.crt <<'END'\n{ca.read_text()}\nEND")
    options = f"--quiet --color 0 --warnings batch --add-ca /ca.crt --jsonfile /found.json {PARTS}"
    # its exit code counts findings of any kind
    said = attacker.run(f"rm -f /found.json; testssl {options} https://{attacker.victim}/ </dev/null || true")
    found = json.loads(attacker.run("cat /found.json"))
    assert len(found) > 100, said
    assert [each for each in found if each["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")] == []
    assert {each["severity"] for each in found if each["id"] == "cert_chain_of_trust"} == {"OK"}
