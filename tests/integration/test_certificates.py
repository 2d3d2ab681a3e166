"""The CA of the inventory, and the certificates that hosts get from it or from the operator."""

import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from shutil import copyfile as copy
from time import time
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from lib.ansible_runs import ROOT, ansible_playbook, inventory, load_module, tool, write_inventory
from lib.certificates import Authority, Pair
from lib.cluster import changed
from lib.redis_server import RedisServer

pair = load_module("plugins/modules/certificate_pair.py")
errors = load_module("plugins/filter/certificate_errors.py")
HOSTS = {"lb1", "redis1", "app1", "app2"}
NAMES = ("-e", '{"nginx_server_names": ["shop.example", "192.0.2.10"]}')
PAIRS = [("lb1", "nginx"), ("redis1", "redis")]
REVOKED = "http://192.0.2.10/.balancer/revoked.crl"


class Hosts:
    """An inventory, and the directories that represent its hosts."""

    def __init__(self, folder: Path) -> None:
        tool("openssl", "openssl")
        self.folder = folder
        self.inventory = write_inventory(folder, inventory())
        self.ca = self.inventory.parent / ".secrets" / "ca.crt"

    def run(self, *arguments: str, **variables: Any) -> "Hosts":
        """Run the role; its output is in `.output`, the number of changed tasks by host in `.changed`."""
        given = [f"-e{name}={value}" for name, value in ({"rendered": self.folder / "rendered"} | variables).items()]
        done = ansible_playbook("-i", self.inventory, "tests/lib/certificates.yml", *given, *arguments)
        assert done.returncode == 0, done.stdout
        self.output, self.changed = done.stdout, changed(done.stdout)
        return self

    def file(self, host: str, name: str) -> Path:
        return self.folder / "rendered" / host / name

    def digests(self) -> dict[Path, str]:
        return {path: sha256(path.read_bytes()).hexdigest() for path in (self.folder / "rendered").rglob("*.*")}

    def certificate(self, host: str, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.file(host, name).read_bytes())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    """Hosts on which the role has run, in check mode first."""
    hosts = Hosts(tmp_path_factory.mktemp("hosts")).run("--check", "--diff")
    assert not (hosts.folder / "rendered").exists()
    assert hosts.changed["redis1"] > 0
    assert "PRIVATE KEY" not in hosts.output
    return hosts.run()


def verify(hosts: Hosts, host: str, name: str, address: str) -> bool:
    """Return whether OpenSSL verifies chain, name, purpose and format, as strictly as Python 3.13."""
    kind = "-verify_ip" if address[0].isdigit() else "-verify_hostname"
    command: list[str | Path] = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        hosts.file(host, "ca.crt"),
    ]
    command += [kind, address, hosts.file(host, f"{name}.crt")]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_each_host_gets_the_files_that_it_needs_and_no_others(hosts: Hosts) -> None:
    found = {host: {path.name for path in (hosts.folder / "rendered" / host).iterdir()} for host in HOSTS}
    assert found == {
        "lb1": {"ca.crt", "nginx.crt", "nginx.key"},
        "redis1": {"ca.crt", "redis.crt", "redis.key"},
        "app1": {"ca.crt"},
        "app2": {"ca.crt"},
    }
    assert mode(hosts.file("redis1", "redis.key")) == "0o600"
    assert mode(hosts.file("redis1", "redis.crt")) == "0o644"
    assert mode(hosts.ca.with_suffix(".key")) == "0o600"
    for host in HOSTS:
        assert hosts.file(host, "ca.crt").read_bytes() == hosts.ca.read_bytes()


def test_the_ca_signs_hosts_only(hosts: Hosts) -> None:
    ca = x509.load_pem_x509_certificate(hosts.ca.read_bytes())
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
    assert ca.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3600)


@pytest.mark.parametrize(
    ("host", "name", "addresses"),
    [("lb1", "nginx", ["192.0.2.10"]), ("redis1", "redis", ["192.0.2.20", "127.0.0.1", "localhost"])],
)
def test_clients_accept_the_certificates(hosts: Hosts, host: str, name: str, addresses: list[str]) -> None:
    for address in addresses:
        assert verify(hosts, host, name, address)
    certificate = hosts.certificate(host, f"{name}.crt")
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=364) < left < timedelta(days=366)
    # testssl.sh reports longer lifetimes; Mozilla's profile has 366 days.
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=366)
    ssl.create_default_context().load_cert_chain(hosts.file(host, f"{name}.crt"), hosts.file(host, f"{name}.key"))


def wanted(authority: Authority, *names: str, **others: Any) -> dict[str, Any]:
    """Return the module's options for these names."""
    options = {"names": names, "ca": authority.file.read_text(), "revoked_url": "", "latest": "", "renew": False}
    return options | others


def test_a_certificate_is_due_when_less_than_a_third_of_its_lifetime_is_left(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    given = authority.issue("192.0.2.20", begins=0, days=90)
    days = {left: datetime.now(UTC).timestamp() + (90 - left) * 86400 for left in (31, 29, -1)}
    about = given.key, given.certificate, wanted(authority, "192.0.2.20")
    reasons = {left: pair.due_reason(*about, now) for left, now in days.items()}
    assert reasons == {31: "", 29: "it expires in 29 days", -1: "it expires in 0 days"}


def test_a_certificate_is_due_for_other_names_or_another_ca(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    given = authority.issue("shop.example", "192.0.2.20", "2001:db8::1")
    names = ["shop.example", "2001:db8:0::1", "192.0.2.20"]

    def reason(names: list[str], ca: Authority = authority, **others: Any) -> str:
        return str(pair.due_reason(given.key, given.certificate, wanted(ca, *names, **others), time()))

    assert reason(names) == ""
    expected = "it is valid for DNS:shop.example, IP:192.0.2.20, IP:2001:db8::1"
    assert reason(names[1:]) == reason([*names, "localhost"]) == expected
    assert "verify" in reason(names, other)
    assert reason(names, revoked_url=REVOKED) == "its revocation list is missing"
    assert reason(names, latest=given.certificate.read_text()) == ""
    assert (
        reason(names, latest=other.file.read_text())
        == "it is not the certificate that was signed last, and may be revoked"
    )
    nameless = authority.issue(title="nameless")
    assert pair.due_reason(nameless.key, nameless.certificate, wanted(authority, *names), time())


def test_a_run_that_is_killed_between_key_and_certificate_is_repaired_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is complete, and has its mode, at any time."""
    authority = Authority(tmp_path)
    path, (old, new) = tmp_path / "redis", (authority.issue("192.0.2.20", title=title) for title in ("old", "new"))
    key, file, following = (path.with_suffix(kind) for kind in (".key", ".crt", ".key.next"))
    copy(old.key, key)
    copy(old.certificate, file)
    copy(new.key, following)
    key.chmod(0o640)
    replace, replaced = os.replace, []

    def interrupt(source: str, target: Path) -> None:
        replaced.append((Path(target).name, mode(Path(source))))
        if target == file:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pair.install(path, new.certificate.read_text())
    assert replaced == [("redis.key", "0o640"), ("redis.crt", "0o644")]
    monkeypatch.undo()
    requested = pair.request_if_due(path, wanted(authority, "192.0.2.20"), check_mode=False)
    assert requested["reason"] == "the key belongs to another certificate"
    assert "REQUEST" in requested["csr"]
    assert requested["replaced"] == [{"content": old.certificate.read_text().strip()}]


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    old, new = (authority.issue("192.0.2.20", title=title) for title in ("old", "new"))
    copy(old.key, tmp_path / "redis.key.next")
    with pytest.raises(pair.CertificateError, match="does not belong to"):
        pair.install(tmp_path / "redis", new.certificate.read_text())
    assert not (tmp_path / "redis.key").exists()


def test_a_group_may_read_the_key(tmp_path: Path) -> None:
    """A group that doesn't exist comes with a package that is not installed yet."""
    key = tmp_path / "redis.key"
    key.write_text("key")
    assert not pair.allow_group(key, "no-such-group")
    if os.geteuid():
        pytest.skip("only root can change the group of a file")
    key.chmod(0o600)
    assert pair.allow_group(key, "daemon", check_mode=True)
    assert (pair.allow_group(key, "daemon"), pair.allow_group(key, "daemon")) == (True, False)
    assert (mode(key), key.group()) == ("0o640", "daemon")


def test_the_presented_certificate_counts_for_the_status(tmp_path: Path) -> None:
    """A file may be newer than the certificate that the service has loaded; without a service the file counts."""
    authority = Authority(tmp_path)
    shown, newer = authority.issue("127.0.0.1", title="shown", days=10), authority.issue("127.0.0.1", title="newer")
    copy(newer.certificate, tmp_path / "redis.crt")
    server = RedisServer(tmp_path, tls=shown).start()
    try:
        found = pair.status(tmp_path / "redis", server.port)
    finally:
        server.kill()
    assert (round(found["certificate_days"]), round(found["ca_days"])) == (10, 3650)
    assert round(pair.status(tmp_path / "redis", server.port)["certificate_days"]) == 90
    (tmp_path / "redis.crt").unlink()
    authority.file.unlink()
    assert pair.status(tmp_path / "redis", server.port) == {"certificate_until": None, "certificate_days": None}


def test_only_due_certificates_are_renewed(hosts: Hosts, tmp_path: Path) -> None:
    """An expired certificate and a certificate for other names, each with a new key. The next run changes nothing."""
    key = hosts.file("redis1", "redis.key")
    expired = Authority(tmp_path).issue("192.0.2.20", begins=-9, days=-1)
    copy(expired.key, key)
    copy(expired.certificate, hosts.file("redis1", "redis.crt"))
    key.chmod(0o640)
    key.with_suffix(".key.next").write_text("left by an interrupted run")
    before = hosts.digests()
    hosts.run(*NAMES)
    assert hosts.changed == dict.fromkeys(HOSTS, 0) | {"lb1": 1, "redis1": 1}
    after = hosts.digests()
    changed_files = {path.name for path in before if before[path] != after.get(path)}
    assert changed_files == {"nginx.key", "nginx.crt", "redis.key", "redis.crt", "redis.key.next"}
    assert not key.with_suffix(".key.next").exists()
    assert mode(key) == "0o640"
    assert verify(hosts, "redis1", "redis", "192.0.2.20")
    assert verify(hosts, "lb1", "nginx", "shop.example")
    assert hosts.run("--diff", *NAMES).changed == dict.fromkeys(HOSTS, 0)
    assert hosts.digests() == after


def revoked(hosts: Hosts) -> x509.CertificateRevocationList:
    """Return the revocation list, which the CA has signed."""
    ca = x509.load_pem_x509_certificate(hosts.ca.read_bytes())
    found = x509.load_der_x509_crl(hosts.ca.with_name("revoked.crl").read_bytes())
    key = ca.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert found.is_signature_valid(key) and found.issuer == ca.subject
    return found


def is_accepted(hosts: Hosts, certificate: bytes) -> bool:
    """Return whether a client that checks the revocation list accepts a certificate, given in PEM."""
    file = hosts.folder / "revoked.pem"
    file.write_bytes(revoked(hosts).public_bytes(Encoding.PEM))
    command: list[str | Path] = [
        "openssl",
        "verify",
        "-x509_strict",
        "-crl_check",
        "-CAfile",
        hosts.ca,
        "-CRLfile",
        file,
    ]
    done = subprocess.run(command, input=certificate, capture_output=True, check=False)
    assert done.returncode == 0 or b"certificate revoked" in done.stderr, done.stderr
    return done.returncode == 0


def test_a_replaced_certificate_is_revoked_even_if_its_host_is_lost(hosts: Hosts) -> None:
    """That of the balancer contains the URL of the list; that of Redis doesn't, since app nodes check no list."""
    before = hosts.run().certificate("lb1", "nginx.crt")
    points = before.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [name.value for point in points for name in point.full_name] == [REVOKED]
    assert b"http" not in hosts.certificate("redis1", "redis.crt").public_bytes(Encoding.DER)
    old = {name: hosts.file(host, f"{name}.crt").read_bytes() for host, name in PAIRS}
    assert all(is_accepted(hosts, each) for each in old.values())
    hosts.file("lb1", "nginx.crt").unlink()
    hosts.ca.with_name("redis1-redis.crt").unlink()  # as with a CA of an older version
    hosts.run("--check", certificates_renew="true")
    assert all(is_accepted(hosts, each) for each in old.values())
    hosts.run()
    assert not is_accepted(hosts, old["nginx"])
    assert is_accepted(hosts, old["redis"])
    after = hosts.file("lb1", "nginx.crt").read_bytes()
    assert is_accepted(hosts, after)
    next_update = revoked(hosts).next_update_utc
    assert next_update and next_update > hosts.certificate("lb1", "nginx.crt").not_valid_after_utc
    hosts.run(certificates_renew="true")
    assert [is_accepted(hosts, each) for each in (*old.values(), after)] == [
        False
    ] * 3  # both again, and the list keeps older certificates


def test_another_ca_replaces_all_certificates(hosts: Hosts) -> None:
    for kind in (".key", ".crt"):
        hosts.ca.with_suffix(kind).unlink()
    assert all(count > 0 for count in hosts.run().changed.values())
    assert verify(hosts, "redis1", "redis", "192.0.2.20")
    assert verify(hosts, "lb1", "nginx", "192.0.2.10")
    assert is_accepted(hosts, hosts.file("lb1", "nginx.crt").read_bytes())


@pytest.fixture
def other_ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


def test_the_operators_own_certificate_is_installed(hosts: Hosts, other_ca: Authority) -> None:
    given = other_ca.issue("shop.example")
    hosts.run(
        "--diff",
        "-e",
        "nginx_certificate_source=files",
        certificates_chain_file=given.certificate,
        certificates_key_file=given.key,
    )
    assert hosts.file("lb1", "nginx.crt").read_bytes() == given.certificate.read_bytes()
    assert hosts.file("lb1", "nginx.key").read_bytes() == given.key.read_bytes()
    assert mode(hosts.file("lb1", "nginx.key")) == "0o600"
    assert "PRIVATE KEY" not in hosts.output
    assert (hosts.changed["lb1"], hosts.changed["redis1"]) == (1, 0)


def refused(names: list[str], given: Pair, **changes: str) -> str:
    """Return the only message about these files."""
    files = {"chain_file": str(given.certificate), "key_file": str(given.key)} | changes
    (message,) = errors.certificate_file_errors(names, **files)
    return str(message)


def test_valid_files_are_accepted(other_ca: Authority) -> None:
    given = other_ca.issue("shop.example", "*.shop.example", "192.0.2.10", "2001:db8::1")
    chain = given.certificate.with_name("chain.crt")
    chain.write_bytes(given.certificate.read_bytes() + other_ca.file.read_bytes())
    names = ["Shop.example", "www.shop.example", "192.0.2.10", "2001:db8:0::1"]
    assert errors.certificate_file_errors(names, str(chain), str(given.key)) == []


def test_files_that_browsers_would_reject_are_refused(other_ca: Authority, tmp_path: Path) -> None:
    good = other_ca.issue("*.shop.example", title="good")
    message = refused(["a.shop.example", "shop.example", "a.b.shop.example", "192.0.2.10"], good)
    assert "does not cover shop.example, a.b.shop.example, 192.0.2.10. Replace it" in message
    assert message.endswith("names that it covers: *.shop.example.")
    names = ["www.shop.example"]
    other = other_ca.issue("*.shop.example", title="other")
    assert "is not the key of the first certificate" in refused(names, good, key_file=str(other.key))
    assert "CN=expired expired on 20" in refused(names, other_ca.issue(*names, title="expired", begins=-9, days=-1))
    assert "CN=early is not valid before 20" in refused(names, other_ca.issue(*names, title="early", begins=1))
    assert "is no PEM key without a passphrase" in refused(names, good, key_file=str(good.certificate))
    assert "is no certificate in PEM" in refused(names, good, chain_file=str(tmp_path / "none"))
    chain = tmp_path / "chain.crt"
    chain.write_bytes(good.certificate.read_bytes() + Authority(tmp_path, "foreign").file.read_bytes())
    assert "CN=good is followed by CN=foreign, which has not signed it" in refused(names, good, chain_file=str(chain))


def test_site_yml_refuses_such_files_before_it_changes_a_host(other_ca: Authority, tmp_path: Path) -> None:
    expired = other_ca.issue("192.0.2.10", days=-1, begins=-9)
    content = inventory(
        nginx_certificate_source="files",
        certificates_chain_file=str(expired.certificate),
        certificates_key_file=str(expired.key),
    )
    done = ansible_playbook("-i", write_inventory(tmp_path, content), "playbooks/internal/validate.yml")
    assert done.returncode != 0
    assert "Nothing was changed." in done.stdout
    assert "CN=server expired on 20" in done.stdout


@pytest.mark.parametrize(
    ("shown", "arguments", "expected"),
    [("first", [], "second"), ("elsewhere", [], "elsewhere"), ("elsewhere", ["anyway"], "second")],
)
def test_certbot_replaces_only_its_own_certificates(
    tmp_path: Path, shown: str, arguments: list[str], expected: str
) -> None:
    """Its timer keeps running when the certificate has another source."""
    host, live, archive, programs = (tmp_path / name for name in ("tls", "live", "archive", "bin"))
    for folder in (host, live, archive, programs):
        folder.mkdir()
    for number, text in enumerate(("first", "second"), 1):
        (archive / f"fullchain{number}.pem").write_text(text)
    (archive / "privkey2.pem").write_text("key of second")
    for kind in ("fullchain", "privkey"):
        (live / f"{kind}.pem").symlink_to(archive / f"{kind}2.pem")
    for program in ("nginx", "systemctl"):
        (programs / program).symlink_to("/bin/true")
    (host / "nginx.crt").write_text(shown)
    hook = (ROOT / "roles/certificates/templates/deploy-certificate.j2").read_text()
    hook = hook.replace("{{ certificates_dir }}", str(host)).replace("{{ ansible_managed | comment }}", "")
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "RENEWED_LINEAGE": str(live)}
    subprocess.run(["/bin/sh", "-c", hook, "deploy-certificate", *arguments], env=environment, check=True)
    assert (host / "nginx.crt").read_text() == expected
    if expected == "second":
        assert (host / "nginx.key").read_text() == "key of second"
        assert (mode(host / "nginx.key"), mode(host / "nginx.crt")) == ("0o600", "0o644")
    else:
        assert {path.name for path in host.iterdir()} == {"nginx.crt"}


def test_a_run_with_a_tag_creates_the_certificates_that_it_needs() -> None:
    """It may be the first run of a version with certificates."""
    (play,) = yaml.safe_load((ROOT / "playbooks/internal/hosts.yml").read_text())
    roles = {task["ansible.builtin.import_role"]["name"]: task for task in play["tasks"]}
    assert {"redis", "app", "nginx"} <= set(roles["certificates"]["tags"])


@pytest.mark.parametrize("name", ["192.0.2.10", "localhost", "*.shop.example"])
def test_acme_refuses_names_without_public_dns(name: str) -> None:
    (message,) = errors.acme_errors(["shop.example", name], ["lb1"])
    assert f"nginx_server_names has {name}: ACME" in message


def test_acme_refuses_several_balancers() -> None:
    assert errors.acme_errors(["shop.example"], ["lb1"]) == []
    (message,) = errors.acme_errors(["shop.example"], ["lb1", "lb2"])
    assert "There are 2 balancers (lb1, lb2)" in message
