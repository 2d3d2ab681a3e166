"""Hashes passwords in the format that the app's login verifies."""

import hashlib

from ansible.errors import AnsibleFilterError


def scrypt_hash(password, salt):
    """Return `password` hashed with scrypt in Werkzeug's format, `scrypt:N:r:p$salt$hex`.

    The salt is derived from `salt`, so that the same inputs give the same text and a second run changes nothing.
    N = 2^15, r = 8, p = 1: Werkzeug's defaults, 32 MiB per try.
    """
    if not password or not salt:
        raise AnsibleFilterError("scrypt_hash: the password and the salt must not be empty")
    salt = hashlib.sha256(str(salt).encode()).hexdigest()[:16]
    digest = hashlib.scrypt(str(password).encode(), salt=salt.encode(), n=2**15, r=8, p=1, maxmem=2**26)
    return f"scrypt:32768:8:1${salt}${digest.hex()}"


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Name the filters."""
        return {"scrypt_hash": scrypt_hash}


if __name__ == "__main__":
    import getpass
    import secrets

    first, second = getpass.getpass("Password: "), getpass.getpass("Again: ")
    raise SystemExit("They differ." if first != second else print(scrypt_hash(first, secrets.token_hex())))
