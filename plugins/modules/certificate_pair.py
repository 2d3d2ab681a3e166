#!/usr/bin/python
"""Create the key of a certificate on the host that uses it, request the certificate, and install both."""

import grp
import ipaddress
import os
import re
import ssl
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import write_atomically
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: certificate_pair
short_description: create a key that stays on its host, request its certificate, and install both
description:
  - The pair is C(PATH.key) and C(PATH.crt), with the CA's certificate in C(ca.crt) beside them.
  - C(requested) creates the directory and installs C(ca.crt). If a certificate for C(names) is due, it creates a new
    key, C(PATH.key.next), which is not used yet, and returns a request for C(community.crypto.x509_certificate_pipe).
  - C(installed) puts the signed certificate and its key in place. Each file is replaced as a whole. If the module is
    killed between the two, the key doesn't match the certificate, and the next run requests another certificate.
  - C(queried) is read-only and returns the expiry dates of the certificate and the CA.
options:
  state:
    type: str
    choices: [requested, installed, queried]
    required: true
    description: requested step
  path:
    type: path
    required: true
    description: path of both files, without C(.key) and C(.crt)
  ca:
    type: str
    description: "with C(requested): the CA's certificate, PEM; a certificate that it has not signed is due"
  names:
    type: list
    elements: str
    default: []
    description: "with C(requested): DNS names and IP addresses of the certificate; if empty, none is requested"
  revoked_url:
    type: str
    default: ""
    description: "with C(requested): URL of the CA's revocation list"
  latest:
    type: str
    default: ""
    description: "with C(requested): the certificate that was signed last, PEM; any other certificate is due"
  renew:
    type: bool
    default: false
    description: "with C(requested): request a certificate even if none is due"
  superseded_by:
    type: str
    default: ""
    description: "with C(requested): a file; if it exists, no certificate is requested"
  key_group:
    type: str
    default: ""
    description: group that may read the key, if it exists; if empty, a key keeps its mode, and a first key is 0600
  certificate:
    type: str
    description: "with C(installed): the signed certificate, PEM"
  port:
    type: int
    description: "with C(queried): TLS port on 127.0.0.1; the presented certificate counts, else the file"
"""

EXAMPLES = r"""
- name: Request a certificate if it is due
  certificate_pair:
    state: requested
    path: /etc/anynode/tls/redis
    ca: "{{ lookup('ansible.builtin.file', 'ca.crt') }}"
    names: [192.0.2.20, localhost]
    key_group: redis
  register: pair

- name: Install the certificate with its key
  certificate_pair:
    state: installed
    path: /etc/anynode/tls/redis
    certificate: "{{ signed.certificate }}"
    key_group: redis

- name: Query the expiry dates
  certificate_pair: {state: queried, path: /etc/anynode/tls/redis, port: 6379}
"""

RETURN = r"""
csr:
  description: request to sign, PEM; empty if no certificate is due
  type: str
  returned: with C(requested)
reason:
  description: reason why a certificate is due
  type: str
  returned: with C(requested)
  sample: it expires in 29 days
replaced:
  description: certificates to revoke, as C(community.crypto.x509_crl) takes them
  type: list
  elements: dict
  returned: with C(requested), if a certificate is due
created:
  description: whether the directory was created
  type: bool
  returned: with C(requested)
status:
  description: >-
    C(certificate_until) and C(certificate_days), null if unknown; C(ca_until) and C(ca_days), omitted if unknown
  type: dict
  returned: with C(queried)
  sample: {certificate_until: "2027-11-22T10:00:00+00:00", certificate_days: 300.5}
"""

RENEWAL = 1 / 3  # of the lifetime: with less left, a certificate is due
DAY = 86400


class CertificateError(Exception):
    """Nothing was changed; the message is the reason."""


def openssl(*arguments: str | Path, text: str = "") -> str:
    """Return the output of openssl. Raises CertificateError with its message if it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CertificateError(f"openssl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def dates(certificate: str) -> list[int]:
    """Return begin and end of a certificate's validity, in seconds since the epoch."""
    shown = openssl("x509", "-noout", "-startdate", "-enddate", text=certificate)
    return [ssl.cert_time_to_seconds(line.split("=", 1)[1]) for line in shown.splitlines()]


def fits(key: Path, certificate: str) -> bool:
    """Return whether a certificate belongs to a key."""
    return openssl("pkey", "-in", key, "-pubout") == openssl("x509", "-noout", "-pubkey", text=certificate)


def subject(name: str) -> str:
    """Return a DNS name or an IP address as OpenSSL takes it, in its canonical form."""
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def subjects(certificate: str) -> set[str]:
    """Return the names and addresses of a certificate, each as from `subject`."""
    shown = openssl("x509", "-noout", "-ext", "subjectAltName", text=certificate).strip().splitlines() or [""]
    return {subject(each.strip().partition(":")[2]) for each in shown[-1].split(",")}


def revocation_lists(certificate: str) -> list[str]:
    """Return the URLs of revocation lists in a certificate."""
    shown = openssl("x509", "-noout", "-ext", "crlDistributionPoints", text=certificate)
    return re.findall(r"^ *URI:(.*)$", shown, re.MULTILINE)


def assert_signed(certificate: str, ca: str) -> None:
    """Raise CertificateError unless this CA has signed a certificate."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(ca)
        file.flush()
        openssl("verify", "-no_check_time", "-no-CApath", "-no-CAstore", "-CAfile", file.name, text=certificate)


def due_reason(key: Path, certificate_file: Path, wanted: dict[str, Any], now: float) -> str:
    """Return the reason why another certificate is due, empty if none is. wanted: the module's options by name."""
    try:
        certificate = certificate_file.read_text()
        if not fits(key, certificate):
            return "the key belongs to another certificate"
        if (has := subjects(certificate)) != {subject(name) for name in wanted["names"]}:
            return f"it is valid for {', '.join(sorted(has))}"
        if (found := revocation_lists(certificate)) != [wanted["revoked_url"]] * bool(wanted["revoked_url"]):
            return f"its revocation list is {' and '.join(found) or 'missing'}"
        if wanted["latest"].strip() not in ("", certificate.strip()):
            return "it is not the certificate that was signed last, and may be revoked"
        assert_signed(certificate, wanted["ca"])
        begin, end = dates(certificate)
    except (OSError, CertificateError) as error:
        return str(error)
    return f"it expires in {max(0, end - now) / DAY:.0f} days" if end - now < RENEWAL * (end - begin) else ""


def replaced(certificate_file: Path, wanted: dict[str, Any]) -> list[dict[str, str]]:
    """Return the certificates that a new certificate replaces, each once: {"content": PEM}."""
    found = [wanted["latest"]]
    try:
        certificate = certificate_file.read_text()
        assert_signed(certificate, wanted["ca"])
        found.append(certificate)
    except (OSError, CertificateError):
        pass  # there is none, or another CA has to revoke it
    return [{"content": text} for text in dict.fromkeys(each.strip() for each in found) if text]


def request(key: str | Path, names: list[str], revoked_url: str) -> str:
    """Return a certificate request for a key."""
    title = next((name for name in names if len(name) <= 64), "anynode")  # the limit of a common name
    extensions = [
        "subjectAltName=" + ",".join(map(subject, names)),
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth",
        *([f"crlDistributionPoints=URI:{revoked_url}"] if revoked_url else []),
    ]
    options = [part for each in extensions for part in ("-addext", each)]
    return openssl("req", "-new", "-key", key, "-subj", f"/CN={title}", *options)


def files(path: str | Path) -> tuple[Path, Path, Path]:
    """Return the paths of key, next key and certificate."""
    return Path(f"{path}.key"), Path(f"{path}.key.next"), Path(f"{path}.crt")


def request_if_due(path: str | Path, wanted: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return csr, reason and replaced; an empty csr if no certificate is due."""
    key, next_key, certificate_file = files(path)
    reason = due_reason(key, certificate_file, wanted, time.time())
    if wanted["renew"]:
        reason = "requested by the operator"
    if not reason:
        if not check_mode:
            next_key.unlink(missing_ok=True)
        return {"csr": "", "reason": ""}
    result = {"reason": reason, "replaced": replaced(certificate_file, wanted)}
    created = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    if not check_mode:
        write_atomically(next_key, created, 0o600)
        return result | {"csr": request(next_key, wanted["names"], wanted["revoked_url"])}
    with tempfile.NamedTemporaryFile("w") as trial:
        trial.write(created)
        trial.flush()
        return result | {"csr": request(trial.name, wanted["names"], wanted["revoked_url"])}


def allow_group(key: Path, group: str, check_mode: bool = False) -> bool:
    """Let a group read a key; return whether that is a change.

    A group that doesn't exist yet comes with a package; the next run changes the key.
    """
    try:
        wanted = 0, grp.getgrnam(group).gr_gid, 0o640
    except KeyError:
        return False
    found = key.stat()
    if (found.st_uid, found.st_gid, found.st_mode & 0o777) == wanted:
        return False
    if not check_mode:
        os.chown(key, *wanted[:2])
        os.chmod(key, wanted[2])
    return True


def install(path: str | Path, certificate: str, group: str = "") -> None:
    """Install a certificate and its key. Raises CertificateError if it belongs to another key."""
    key, next_key, certificate_file = files(path)
    if not fits(next_key, certificate):
        raise CertificateError(f"the certificate does not belong to {next_key}")
    if group:
        allow_group(next_key, group)
    elif key.exists():  # the next key has the same readers
        of = key.stat()
        os.chown(next_key, of.st_uid, of.st_gid)
        os.chmod(next_key, of.st_mode & 0o777)
    os.replace(next_key, key)
    write_atomically(certificate_file, certificate)


def install_ca(directory: Path, ca: str, check_mode: bool) -> dict[str, Any]:
    """Create the directory and install the CA's certificate; return changed, created and diff."""
    file = directory / "ca.crt"
    created, before = not directory.exists(), file.read_text() if file.exists() else ""
    if not check_mode:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if before != ca:
            write_atomically(file, ca)
    return {"changed": before != ca, "created": created, "diff": {"before": before, "after": ca}}


def expiry(certificate: str, kind: str) -> dict[str, Any]:
    """Return KIND_until and KIND_days of a certificate."""
    end = datetime.fromtimestamp(dates(certificate)[1], UTC)
    left = (end - datetime.now(UTC)).total_seconds() / DAY
    return {f"{kind}_until": end.isoformat(timespec="seconds"), f"{kind}_days": round(left, 1)}


def status(path: str | Path, port: int | None) -> dict[str, Any]:
    """Return the expiry dates of the certificate that the port presents, else of the file, and of the CA."""
    found: dict[str, Any] = {"certificate_until": None, "certificate_days": None}
    with suppress(OSError, CertificateError):
        found |= expiry(Path(path).with_name("ca.crt").read_text(), "ca")
    with suppress(OSError, CertificateError):
        found |= expiry(files(path)[2].read_text(), "certificate")
    with suppress(OSError, ValueError, CertificateError):  # the service is stopped
        if port:
            found |= expiry(ssl.get_server_certificate(("127.0.0.1", port), timeout=5), "certificate")
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["requested", "installed", "queried"], "required": True},
            "path": {"type": "path", "required": True},
            "ca": {"type": "str"},
            "names": {"type": "list", "elements": "str", "default": []},
            "revoked_url": {"type": "str", "default": ""},
            "latest": {"type": "str", "default": ""},
            "renew": {"type": "bool", "default": False},
            "superseded_by": {"type": "str", "default": ""},
            "key_group": {"type": "str", "default": "", "no_log": False},
            "certificate": {"type": "str"},
            "port": {"type": "int"},
        },
        required_if=[("state", "requested", ["ca"]), ("state", "installed", ["certificate"])],
        supports_check_mode=True,
    )
    args = module.params
    try:
        if args["state"] == "queried":
            module.exit_json(changed=False, status=status(args["path"], args["port"]))
        if args["state"] == "installed":
            if not module.check_mode:
                install(args["path"], args["certificate"], args["key_group"])
            module.exit_json(changed=True)
        result = install_ca(Path(args["path"]).parent, args["ca"], module.check_mode) | {"csr": "", "reason": ""}
        if args["names"] and not (args["superseded_by"] and Path(args["superseded_by"]).exists()):
            result |= request_if_due(args["path"], args, module.check_mode)
        key = files(args["path"])[0]
        if args["key_group"] and key.exists():
            result["changed"] |= allow_group(key, args["key_group"], module.check_mode)
        module.exit_json(**result)
    except (CertificateError, OSError) as error:
        module.fail_json(msg=f"{args['path']}: {error}")


if __name__ == "__main__":
    main()
