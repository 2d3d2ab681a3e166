"""Password hashes in the format that the app verifies."""

import hashlib
from typing import Any

from ansible.errors import AnsibleFilterError


def scrypt_hash(password: str, salt: str) -> str:
    """Return the scrypt hash of a password in Werkzeug's format, `scrypt:N:r:p$salt$hex`.

    The salt is derived from `salt`, so that the same inputs give the same hash and a second run changes nothing.
    N = 2^14, r = 8, p = 5: of the settings that OWASP considers equally strong, with little memory (16 MiB per
    hash), see docs/explanation/login-limiter.md.
    Raises AnsibleFilterError if an argument is empty or the password is too long.
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

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"scrypt_hash": scrypt_hash}


if __name__ == "__main__":
    import getpass
    import secrets

    password, repeated = getpass.getpass("Password: "), getpass.getpass("Again: ")
    if password != repeated:
        raise SystemExit("The passwords differ.")
    print(scrypt_hash(password, secrets.token_hex()))
