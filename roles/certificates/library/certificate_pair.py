#!/usr/bin/python
"""Makes the key of a certificate on the machine that uses it, which the key never leaves, and puts both in place."""

import os
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
  - The pair is C(PATH.key) and C(PATH.crt). With C(names), says what to sign, C(csr), and returns C(certificate), what
    is there now, empty if another one is due. That one gets a new key, C(PATH.key.next), which nothing uses yet.
  - With C(certificate), puts that in place, together with its key. Neither is ever there half.
  - Mode and owner of a key stay as they are; a first one is for root alone.
options:
  path: {type: path, required: true, description: path of both files, without .key and .crt}
  names: {type: list, elements: str, description: DNS names and IP addresses that the certificate is for}
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


def why_due(key, file, now):
    """Return why another certificate is due, empty if none is."""
    try:
        certificate = file.read_text()
        if not fits(key, certificate):
            return "the key is of another certificate"
        begin, end = dates(certificate)
    except (OSError, Refused) as error:
        return str(error)
    return f"it ends in {max(0, end - now) / 86400:.0f} days" if end - now < LEFT * (end - begin) else ""


def request(key, names):
    """Return a request for a certificate of this key."""
    kinds = [("IP:" if ":" in name or name.replace(".", "").isdigit() else "DNS:") + name for name in names]
    subject = next((name for name in names if len(name) <= 64), "anynode")  # a common name may have no more
    extensions = [
        "subjectAltName=" + ",".join(kinds),
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth",
    ]
    options = [part for each in extensions for part in ("-addext", each)]
    return openssl("req", "-new", "-key", key, "-subj", f"/CN={subject}", *options)


def place(path, text, like=None):
    """Write a file in one rename. like: one whose mode and owner it gets, if there is such; else it is for root."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as partial:  # mode 0600
        partial.write(text)
    if like and like.exists():
        of = like.stat()
        os.chown(partial.name, of.st_uid, of.st_gid)
        os.chmod(partial.name, of.st_mode & 0o777)
    os.rename(partial.name, path)


def ask(path, names, renew, check_mode):
    """Return what to sign and, unless another one is due, the certificate that is there."""
    key, following, file = (Path(f"{path}.{kind}") for kind in ("key", "key.next", "crt"))
    if not (why := "it was asked for" if renew else why_due(key, file, time.time())):
        following.unlink(missing_ok=True)
        return {"csr": request(key, names), "certificate": file.read_text(), "why": ""}
    made = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    if not check_mode:
        place(following, made)
        return {"csr": request(following, names), "certificate": "", "why": why}
    with tempfile.NamedTemporaryFile("w") as trial:
        trial.write(made)
        trial.flush()
        return {"csr": request(trial.name, names), "certificate": "", "why": why}


def put(path, certificate, check_mode):
    """Put a certificate in place, and its key; return whether that changed anything."""
    key, following, file = (Path(f"{path}.{kind}") for kind in ("key", "key.next", "crt"))
    if file.exists() and file.read_text() == certificate and key.exists() and fits(key, certificate):
        return False
    if check_mode:
        return True
    if following.exists() and fits(following, certificate):
        place(key, following.read_text(), like=key)
        following.unlink()
    if not fits(key, certificate):
        raise Refused(f"the certificate is not that of {key}")
    place(file, certificate)
    os.chmod(file, 0o644)
    return True


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str"},
            "renew": {"type": "bool", "default": False},
            "certificate": {"type": "str"},
        },
        mutually_exclusive=[("names", "certificate")],
        required_one_of=[("names", "certificate")],
        supports_check_mode=True,
    )
    args = module.params
    try:
        if args["certificate"]:
            module.exit_json(changed=put(args["path"], args["certificate"], module.check_mode))
        module.exit_json(changed=False, **ask(args["path"], args["names"], args["renew"], module.check_mode))
    except (Refused, OSError) as error:
        module.fail_json(msg=f"{args['path']}: {error}")


if __name__ == "__main__":
    main()
