"""Hashes passwords in the format that the app's login verifies."""

import hashlib

from ansible.errors import AnsibleFilterError


def scrypt_hash(password, salt):
    """Return `password` hashed with scrypt in Werkzeug's format, `scrypt:N:r:p$salt$hex`.

    The salt is derived from `salt`, so that the same inputs give the same text and a second run changes nothing.
    N = 2^14, r = 8, p = 5: 16 MiB per attempt, as strong as OWASP's first choice; docs/explanation/login-limiter.md.
    """
    if not password or not salt:
        raise AnsibleFilterError("scrypt_hash: the password and the salt must not be empty")
    if len(str(password).encode()) > 1024:
        raise AnsibleFilterError("scrypt_hash: the app takes passwords of 1024 bytes at most")
    salt = hashlib.sha256(str(salt).encode()).hexdigest()[:16]
    digest = hashlib.scrypt(str(password).encode(), salt=salt.encode(), n=2**14, r=8, p=5, maxmem=2**26)
    return f"scrypt:16384:8:5${salt}${digest.hex()}"


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
