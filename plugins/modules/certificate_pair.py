#!/usr/bin/python
"""Makes the key of a certificate on the machine that uses it, which the key never leaves, and puts both in place."""

import ipaddress
import os
import re
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: certificate_pair
short_description: a key that stays on its machine, a request for its certificate, and the certificate beside it
description:
  - The pair is C(PATH.key) and C(PATH.crt). With C(names), says what to sign, C(csr), or nothing unless another
    certificate is due. That one gets a new key, C(PATH.key.next), which nothing uses yet. What it replaces, as
    M(community.crypto.x509_crl) takes it, is C(replaced): the one that is there, if of this CA, and C(latest).
  - With C(certificate), puts that in place, together with its key. Neither is ever there half. Who is killed between
    the two leaves a key of another certificate, and so another one due.
  - Mode and owner of a key stay as they are; a first one is for root alone.
options:
  path: {type: path, required: true, description: path of both files, without .key and .crt}
  names: {type: list, elements: str, description: DNS names and IP addresses that the certificate is for}
  ca: {type: str, description: "with C(names): the CA's certificate, PEM; one that it hasn't signed is due"}
  revoked_url: {type: str, default: "", description: "with C(names): where clients can ask what was revoked"}
  latest: {type: str, default: "", description: "with C(names): the one that was signed last; any other one is due"}
  renew: {type: bool, default: false, description: whether one is due in any case}
  certificate: {type: str, description: "the signed certificate, PEM"}
"""

LEFT = 1 / 3  # of its life: then another certificate is due


class Refused(Exception):
    """Nothing was changed; the message says why."""


def openssl(*arguments, text=""):
    """Return what openssl prints; Refused with its words if it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"openssl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def dates(certificate):
    """Return from when and until when a certificate is valid, in seconds since the epoch."""
    shown = openssl("x509", "-noout", "-startdate", "-enddate", text=certificate)
    return [ssl.cert_time_to_seconds(line.split("=", 1)[1]) for line in shown.splitlines()]


def fits(key, certificate):
    """Tell whether a certificate is of this key."""
    return openssl("pkey", "-in", key, "-pubout") == openssl("x509", "-noout", "-pubkey", text=certificate)


def subject(name):
    """Return a DNS name or an IP address as OpenSSL takes it, in one spelling."""
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def subjects(certificate):
    """Return what a certificate is for, each as of `subject`."""
    shown = openssl("x509", "-noout", "-ext", "subjectAltName", text=certificate).strip().splitlines() or [""]
    return {subject(each.strip().partition(":")[2]) for each in shown[-1].split(",")}


def lists(certificate):
    """Return where a certificate says that clients find out whether it was revoked."""
    shown = openssl("x509", "-noout", "-ext", "crlDistributionPoints", text=certificate)
    return re.findall(r"^ *URI:(.*)$", shown, re.MULTILINE)


def signed(certificate, ca):
    """Raise Refused unless this CA has signed a certificate."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(ca)
        file.flush()
        openssl("verify", "-no_check_time", "-no-CApath", "-no-CAstore", "-CAfile", file.name, text=certificate)


def why_due(key, file, wanted, now):
    """Return why another certificate is due, empty if none is. wanted: the module's options by name."""
    try:
        certificate = file.read_text()
        if not fits(key, certificate):
            return "the key is of another certificate"
        if (has := subjects(certificate)) != {subject(name) for name in wanted["names"]}:
            return f"it is for {', '.join(sorted(has))}"
        if (named := lists(certificate)) != [wanted["revoked_url"]] * bool(wanted["revoked_url"]):
            return f"it names {' and '.join(named) or 'no list'} of what was revoked"
        if wanted["latest"].strip() not in ("", certificate.strip()):
            return "it is not the last one that was signed, and may be revoked"
        signed(certificate, wanted["ca"])
        begin, end = dates(certificate)
    except (OSError, Refused) as error:
        return str(error)
    return f"it ends in {max(0, end - now) / 86400:.0f} days" if end - now < LEFT * (end - begin) else ""


def replaced(file, wanted):
    """Return the certificates that another one replaces, each once: {"content": PEM}."""
    found = [wanted["latest"]]
    try:
        certificate = file.read_text()
        signed(certificate, wanted["ca"])
        found.append(certificate)
    except (OSError, Refused):
        pass  # there is none, or it is for others to revoke
    return [{"content": text} for text in dict.fromkeys(each.strip() for each in found) if text]


def request(key, names, revoked_url):
    """Return a request for a certificate of this key."""
    title = next((name for name in names if len(name) <= 64), "anynode")  # a common name may have no more
    extensions = [
        "subjectAltName=" + ",".join(map(subject, names)),
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth",
        *([f"crlDistributionPoints=URI:{revoked_url}"] if revoked_url else []),
    ]
    options = [part for each in extensions for part in ("-addext", each)]
    return openssl("req", "-new", "-key", key, "-subj", f"/CN={title}", *options)


def lay(beside, text, mode=0o600):
    """Write a file that one rename puts into its place; return its path."""
    with tempfile.NamedTemporaryFile("w", dir=beside.parent, delete=False) as partial:
        partial.write(text)
        os.fchmod(partial.fileno(), mode)
    return partial.name


def ask(path, wanted, check_mode):
    """Return what to sign, why, and what it replaces; nothing to sign unless another certificate is due."""
    key, following, file = (Path(f"{path}.{kind}") for kind in ("key", "key.next", "crt"))
    if not (why := "it was asked for" if wanted["renew"] else why_due(key, file, wanted, time.time())):
        if not check_mode:
            following.unlink(missing_ok=True)
        return {"csr": "", "why": ""}
    result = {"why": why, "replaced": replaced(file, wanted)}
    about = wanted["names"], wanted["revoked_url"]
    made = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    if not check_mode:
        os.rename(lay(following, made), following)
        return result | {"csr": request(following, *about)}
    with tempfile.NamedTemporaryFile("w") as trial:
        trial.write(made)
        trial.flush()
        return result | {"csr": request(trial.name, *about)}


def put(path, certificate):
    """Put a certificate in place, and its key, as near to at once as two files can be."""
    key, following, file = (Path(f"{path}.{kind}") for kind in ("key", "key.next", "crt"))
    if not fits(following, certificate):
        raise Refused(f"the certificate is not that of {following}")
    if key.exists():  # whoever could read it can read the next one
        of = key.stat()
        os.chown(following, of.st_uid, of.st_gid)
        os.chmod(following, of.st_mode & 0o777)
    made = lay(file, certificate, 0o644)
    os.rename(following, key)
    os.rename(made, file)


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str"},
            "ca": {"type": "str"},
            "revoked_url": {"type": "str", "default": ""},
            "latest": {"type": "str", "default": ""},
            "renew": {"type": "bool", "default": False},
            "certificate": {"type": "str"},
        },
        mutually_exclusive=[("names", "certificate")],
        required_one_of=[("names", "certificate")],
        required_by={"names": "ca"},
        supports_check_mode=True,
    )
    args = module.params
    try:
        if not args["certificate"]:
            module.exit_json(changed=False, **ask(args["path"], args, module.check_mode))
        if not module.check_mode:
            put(args["path"], args["certificate"])
        module.exit_json(changed=True)
    except (Refused, OSError) as error:
        module.fail_json(msg=f"{args['path']}: {error}")


if __name__ == "__main__":
    main()
