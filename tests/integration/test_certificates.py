"""The inventory's CA, and the certificates that machines get of it, or of the user."""

import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from shutil import copyfile as copy
from time import time

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lib.ansible_runs import ROOT, ansible_playbook, inventory, load_module, tool, write_inventory
from lib.certificates import Authority
from lib.cluster import changed

pair = load_module("plugins/modules/certificate_pair.py")
errors = load_module("plugins/filter/certificate_errors.py")
HOSTS = {"lb1", "redis1", "app1", "app2"}
NAMES = ("-e", '{"nginx_server_names": ["shop.example", "192.0.2.10"]}')
PAIRS = [("lb1", "nginx"), ("redis1", "redis")]
REVOKED = "http://192.0.2.10/.balancer/revoked.crl"


class Machines:
    """An inventory, and the directories that stand for its machines."""

    def __init__(self, folder):
        tool("openssl", "openssl")
        self.folder = folder
        self.hosts = write_inventory(folder, inventory())
        self.ca = self.hosts.parent / ".secrets" / "ca.crt"

    def run(self, *arguments, **variables):
        """What the role says; how many tasks changed something, by host, in `.changed`."""
        given = [f"-e{name}={value}" for name, value in ({"rendered": self.folder / "rendered"} | variables).items()]
        done = ansible_playbook("-i", self.hosts, "tests/lib/certificates.yml", *given, *arguments)
        assert done.returncode == 0, done.stdout
        self.said, self.changed = done.stdout, changed(done.stdout)
        return self

    def file(self, host, name):
        return self.folder / "rendered" / host / name

    def digests(self):
        return {path: sha256(path.read_bytes()).hexdigest() for path in (self.folder / "rendered").rglob("*.*")}

    def certificate(self, host, name):
        return x509.load_pem_x509_certificate(self.file(host, name).read_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Machines that the role has been on, after a try in check mode."""
    machines = Machines(tmp_path_factory.mktemp("machines")).run("--check", "--diff")
    assert not (machines.folder / "rendered").exists()
    assert machines.changed["redis1"] > 0
    assert "PRIVATE KEY" not in machines.said
    return machines.run()


def verify(machines, host, name, address):
    """Whether OpenSSL verifies chain, name, purpose and form, as strict as Python 3.13."""
    kind = "-verify_ip" if address[0].isdigit() else "-verify_hostname"
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", machines.file(host, "ca.crt")]
    command += [kind, address, machines.file(host, f"{name}.crt")]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def mode(path):
    return oct(path.stat().st_mode & 0o777)


def test_each_machine_gets_what_it_needs_and_no_more(made):
    have = {host: {path.name for path in (made.folder / "rendered" / host).iterdir()} for host in HOSTS}
    assert have == {
        "lb1": {"ca.crt", "nginx.crt", "nginx.key"},
        "redis1": {"ca.crt", "redis.crt", "redis.key"},
        "app1": {"ca.crt"},
        "app2": {"ca.crt"},
    }
    assert mode(made.file("redis1", "redis.key")) == "0o600"
    assert mode(made.file("redis1", "redis.crt")) == "0o644"
    assert mode(made.ca.with_suffix(".key")) == "0o600"
    for host in HOSTS:
        assert made.file(host, "ca.crt").read_bytes() == made.ca.read_bytes()


def test_the_ca_signs_machines_alone(made):
    ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
    assert ca.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3600)


@pytest.mark.parametrize(
    ("host", "name", "addresses"),
    [("lb1", "nginx", ["192.0.2.10"]), ("redis1", "redis", ["192.0.2.20", "127.0.0.1", "localhost"])],
)
def test_clients_are_satisfied(made, host, name, addresses):
    for address in addresses:
        assert verify(made, host, name, address)
    certificate = made.certificate(host, f"{name}.crt")
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=364) < left < timedelta(days=366)
    # More is a finding of testssl.sh's; Mozilla's profile has 366.
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=366)
    ssl.create_default_context().load_cert_chain(made.file(host, f"{name}.crt"), made.file(host, f"{name}.key"))


def wanted(authority, *names, **others):
    """The module's options, for these names."""
    options = {"names": names, "ca": authority.file.read_text(), "revoked_url": "", "latest": "", "renew": False}
    return options | others


def test_another_one_is_due_when_less_than_a_third_is_left(tmp_path):
    authority = Authority(tmp_path)
    given = authority.issue("192.0.2.20", begins=0, days=90)
    days = {left: datetime.now(UTC).timestamp() + (90 - left) * 86400 for left in (31, 29, -1)}
    about = given.key, given.certificate, wanted(authority, "192.0.2.20")
    why = {left: pair.why_due(*about, now) for left, now in days.items()}
    assert why == {31: "", 29: "it ends in 29 days", -1: "it ends in 0 days"}


def test_another_one_is_due_for_other_names_or_another_ca(tmp_path):
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    given = authority.issue("shop.example", "192.0.2.20", "2001:db8::1")
    names = ["shop.example", "2001:db8:0::1", "192.0.2.20"]

    def why(names, ca=authority, **others):
        return pair.why_due(given.key, given.certificate, wanted(ca, *names, **others), time())

    assert why(names) == ""
    assert why(names[1:]) == why([*names, "localhost"]) == "it is for DNS:shop.example, IP:192.0.2.20, IP:2001:db8::1"
    assert "verify" in why(names, other)
    assert why(names, revoked_url=REVOKED) == "it names no list of what was revoked"
    assert why(names, latest=given.certificate.read_text()) == ""
    assert why(names, latest=other.file.read_text()) == "it is not the last one that was signed, and may be revoked"
    nameless = authority.issue(title="nameless")
    assert pair.why_due(nameless.key, nameless.certificate, wanted(authority, *names), time())


def test_a_run_that_is_killed_between_the_two_files_is_mended_by_the_next_one(tmp_path, monkeypatch):
    """Each file is there whole, and with its mode, at any time."""
    authority = Authority(tmp_path)
    path, (old, new) = tmp_path / "redis", (authority.issue("192.0.2.20", title=title) for title in ("old", "new"))
    key, file, following = (path.with_suffix(kind) for kind in (".key", ".crt", ".key.next"))
    copy(old.key, key)
    copy(old.certificate, file)
    copy(new.key, following)
    key.chmod(0o640)
    rename, renamed = os.rename, []

    def cut_off(source, target):
        renamed.append((Path(target).name, mode(Path(source))))
        if target == file:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", cut_off)
    with pytest.raises(KeyboardInterrupt):
        pair.put(path, new.certificate.read_text())
    assert renamed == [("redis.key", "0o640"), ("redis.crt", "0o644")]
    monkeypatch.undo()
    asked = pair.ask(path, wanted(authority, "192.0.2.20"), check_mode=False)
    assert asked["reason"] == "the key is of another certificate"
    assert "REQUEST" in asked["csr"]
    assert asked["replaced"] == [{"content": old.certificate.read_text().strip()}]


def test_a_certificate_of_another_key_is_refused(tmp_path):
    authority = Authority(tmp_path)
    old, new = (authority.issue("192.0.2.20", title=title) for title in ("old", "new"))
    copy(old.key, tmp_path / "redis.key.next")
    with pytest.raises(pair.Refused, match="is not that of"):
        pair.put(tmp_path / "redis", new.certificate.read_text())
    assert not (tmp_path / "redis.key").exists()


def test_only_what_is_due_is_renewed(made, tmp_path):
    """One that has ended, and one for other names; each with a new key. Then nothing, as before all that."""
    key = made.file("redis1", "redis.key")
    ended = Authority(tmp_path).issue("192.0.2.20", begins=-9, days=-1)
    copy(ended.key, key)
    copy(ended.certificate, made.file("redis1", "redis.crt"))
    key.chmod(0o640)
    key.with_suffix(".key.next").write_text("left by a run that was cut off")
    before = made.digests()
    made.run(*NAMES)
    assert made.changed == dict.fromkeys(HOSTS, 0) | {"lb1": 1, "redis1": 1}
    after = made.digests()
    changed_files = {path.name for path in before if before[path] != after.get(path)}
    assert changed_files == {"nginx.key", "nginx.crt", "redis.key", "redis.crt", "redis.key.next"}
    assert not key.with_suffix(".key.next").exists()
    assert mode(key) == "0o640"
    assert verify(made, "redis1", "redis", "192.0.2.20")
    assert verify(made, "lb1", "nginx", "shop.example")
    assert made.run("--diff", *NAMES).changed == dict.fromkeys(HOSTS, 0)
    assert made.digests() == after


def revoked(machines):
    """The list of what the CA has revoked, which it has signed."""
    ca = x509.load_pem_x509_certificate(machines.ca.read_bytes())
    found = x509.load_der_x509_crl(machines.ca.with_name("revoked.crl").read_bytes())
    assert found.is_signature_valid(ca.public_key()) and found.issuer == ca.subject
    return found


def is_accepted(machines, certificate):
    """Whether a client that asks for the list accepts a certificate, given in PEM."""
    file = machines.folder / "revoked.pem"
    file.write_bytes(revoked(machines).public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", machines.ca, "-CRLfile", file]
    done = subprocess.run(command, input=certificate, capture_output=True, check=False)
    assert done.returncode == 0 or b"certificate revoked" in done.stderr, done.stderr
    return done.returncode == 0


def test_a_certificate_that_was_replaced_is_revoked_though_its_machine_is_lost(made):
    """The balancer's names the list, which outlives it; Redis's clients are the nodes, who ask for none."""
    before = made.run().certificate("lb1", "nginx.crt")
    points = before.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [name.value for point in points for name in point.full_name] == [REVOKED]
    assert b"http" not in made.certificate("redis1", "redis.crt").public_bytes(Encoding.DER)
    old = {name: made.file(host, f"{name}.crt").read_bytes() for host, name in PAIRS}
    assert all(is_accepted(made, each) for each in old.values())
    made.file("lb1", "nginx.crt").unlink()
    made.ca.with_name("redis1-redis.crt").unlink()  # as if the CA was older than this memory
    made.run("--check", certificates_renew="true")
    assert all(is_accepted(made, each) for each in old.values())
    made.run()
    assert not is_accepted(made, old["nginx"])
    assert is_accepted(made, old["redis"])
    after = made.file("lb1", "nginx.crt").read_bytes()
    assert is_accepted(made, after)
    assert revoked(made).next_update_utc > made.certificate("lb1", "nginx.crt").not_valid_after_utc
    made.run(certificates_renew="true")
    assert [is_accepted(made, each) for each in (*old.values(), after)] == [False] * 3  # both again, and none forgotten


def test_another_ca_makes_other_certificates(made):
    for kind in (".key", ".crt"):
        made.ca.with_suffix(kind).unlink()
    assert all(count > 0 for count in made.run().changed.values())
    assert verify(made, "redis1", "redis", "192.0.2.20")
    assert verify(made, "lb1", "nginx", "192.0.2.10")
    assert is_accepted(made, made.file("lb1", "nginx.crt").read_bytes())


@pytest.fixture
def theirs(tmp_path):
    return Authority(tmp_path, "theirs")


def test_the_users_own_files(made, theirs):
    given = theirs.issue("shop.example")
    made.run(
        "--diff",
        "-e",
        "nginx_certificate_source=files",
        certificates_chain_file=given.certificate,
        certificates_key_file=given.key,
    )
    assert made.file("lb1", "nginx.crt").read_bytes() == given.certificate.read_bytes()
    assert made.file("lb1", "nginx.key").read_bytes() == given.key.read_bytes()
    assert mode(made.file("lb1", "nginx.key")) == "0o600"
    assert "PRIVATE KEY" not in made.said
    assert (made.changed["lb1"], made.changed["redis1"]) == (1, 0)


def refused(names, given, **changes):
    """The only message about these files."""
    files = {"chain_file": str(given.certificate), "key_file": str(given.key)} | changes
    (message,) = errors.certificate_file_errors(names, **files)
    return message


def test_good_files_are_not_refused(theirs):
    given = theirs.issue("shop.example", "*.shop.example", "192.0.2.10", "2001:db8::1")
    chain = given.certificate.with_name("chain.crt")
    chain.write_bytes(given.certificate.read_bytes() + theirs.file.read_bytes())
    names = ["Shop.example", "www.shop.example", "192.0.2.10", "2001:db8:0::1"]
    assert errors.certificate_file_errors(names, str(chain), str(given.key)) == []


def test_files_that_visitors_would_be_warned_of(theirs, tmp_path):
    good = theirs.issue("*.shop.example", title="good")
    said = refused(["a.shop.example", "shop.example", "a.b.shop.example", "192.0.2.10"], good)
    assert "is not for shop.example, a.b.shop.example, 192.0.2.10. Bring one that is" in said
    assert said.endswith("what it is for: *.shop.example.")
    names = ["www.shop.example"]
    other = theirs.issue("*.shop.example", title="other")
    assert "is not the key of the first certificate" in refused(names, good, key_file=str(other.key))
    assert "CN=ended ended on 20" in refused(names, theirs.issue(*names, title="ended", begins=-9, days=-1))
    assert "CN=early begins on 20" in refused(names, theirs.issue(*names, title="early", begins=1))
    assert "holds no key without a passphrase" in refused(names, good, key_file=str(good.certificate))
    assert "holds no certificate in PEM" in refused(names, good, chain_file=str(tmp_path / "none"))
    chain = tmp_path / "chain.crt"
    chain.write_bytes(good.certificate.read_bytes() + Authority(tmp_path, "foreign").file.read_bytes())
    assert "CN=good is followed by CN=foreign, which has not signed it" in refused(names, good, chain_file=str(chain))


def test_site_yml_refuses_them_before_it_touches_a_machine(theirs, tmp_path):
    ended = theirs.issue("192.0.2.10", days=-1, begins=-9)
    content = inventory(
        nginx_certificate_source="files",
        certificates_chain_file=str(ended.certificate),
        certificates_key_file=str(ended.key),
    )
    done = ansible_playbook("-i", write_inventory(tmp_path, content), "playbooks/internal/validate.yml")
    assert done.returncode != 0
    assert "Nothing was touched." in done.stdout
    assert "CN=server ended on 20" in done.stdout


@pytest.mark.parametrize(
    ("shown", "arguments", "expected"),
    [("first", [], "second"), ("elsewhere", [], "elsewhere"), ("elsewhere", ["anyway"], "second")],
)
def test_certbot_changes_what_nginx_shows_if_that_was_certbots(tmp_path, shown, arguments, expected):
    """Its timer goes on when the certificate comes from elsewhere."""
    machine, live, archive, programs = (tmp_path / name for name in ("tls", "live", "archive", "bin"))
    for folder in (machine, live, archive, programs):
        folder.mkdir()
    for number, text in enumerate(("first", "second"), 1):
        (archive / f"fullchain{number}.pem").write_text(text)
    (archive / "privkey2.pem").write_text("key of second")
    for kind in ("fullchain", "privkey"):
        (live / f"{kind}.pem").symlink_to(archive / f"{kind}2.pem")
    for program in ("nginx", "systemctl"):
        (programs / program).symlink_to("/bin/true")
    (machine / "nginx.crt").write_text(shown)
    hook = (ROOT / "roles/certificates/templates/deploy-certificate.j2").read_text()
    hook = hook.replace("{{ certificates_dir }}", str(machine)).replace("{{ ansible_managed | comment }}", "")
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "RENEWED_LINEAGE": str(live)}
    subprocess.run(["/bin/sh", "-c", hook, "deploy-certificate", *arguments], env=environment, check=True)
    assert (machine / "nginx.crt").read_text() == expected
    if expected == "second":
        assert (machine / "nginx.key").read_text() == "key of second"
        assert (mode(machine / "nginx.key"), mode(machine / "nginx.crt")) == ("0o600", "0o644")
    else:
        assert {path.name for path in machine.iterdir()} == {"nginx.crt"}


def test_a_run_of_one_part_makes_the_certificates_that_it_needs():
    """It may be the first one since there are any."""
    roles = [role for play in yaml.safe_load((ROOT / "site.yml").read_text()) for role in play.get("roles", [])]
    (certificates,) = [role for role in roles if isinstance(role, dict) and role["role"] == "certificates"]
    assert {"redis", "app", "nginx"} <= set(certificates["tags"])


@pytest.mark.parametrize("name", ["192.0.2.10", "localhost", "*.shop.example"])
def test_acme_wants_names_that_it_can_ask(name):
    (message,) = errors.acme_errors(["shop.example", name], ["lb1"])
    assert f"nginx_server_names has {name}: ACME" in message


def test_acme_wants_one_balancer():
    assert errors.acme_errors(["shop.example"], ["lb1"]) == []
    (message,) = errors.acme_errors(["shop.example"], ["lb1", "lb2"])
    assert "There are 2 balancers (lb1, lb2)" in message
