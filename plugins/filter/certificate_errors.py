"""Errors in an operator's certificate, or in the names of an ACME certificate, found before a host is changed."""

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
except ImportError as error:  # it comes with ansible-core
    raise AnsibleFilterError(f"{error}: run `make venv`") from error

SUBJECT = x509.SubjectAlternativeName


def certificate_file_errors(names: list[str], chain_file: str, key_file: str, now: datetime | None = None) -> list[str]:
    """Return messages, each with the cause and the remedy; none if browsers accept these files for all names."""
    errors: list[str] = []
    chain: list[x509.Certificate] = []
    key: Any = None
    try:
        with open(chain_file, "rb") as file:
            chain = x509.load_pem_x509_certificates(file.read())
    except (OSError, ValueError) as error:
        errors.append(
            f"certificates_chain_file {chain_file!r} is no certificate in PEM ({error}). Set the certificate file."
        )
    try:
        with open(key_file, "rb") as file:
            key = load_pem_private_key(file.read(), password=None)
    except (OSError, ValueError, TypeError) as error:
        errors.append(f"certificates_key_file {key_file!r} is no PEM key without a passphrase ({error}).")
    if not chain:
        return errors
    if key and key.public_key() != chain[0].public_key():
        errors.append(
            f"{key_file} is not the key of the first certificate in {chain_file}. Set the right certificates_key_file."
        )
    for certificate in chain:
        errors += date_errors(certificate, chain_file, now or datetime.now(UTC))
    for certificate, issuer in zip(chain, chain[1:], strict=False):
        if certificate.issuer != issuer.subject:
            errors.append(
                f"{chain_file}: {title(certificate)} is followed by {title(issuer)}, which has not signed it."
                " Put the server's certificate first, and after each certificate that of its issuer."
            )
    if missing := [name for name in names if not covers(chain[0], name)]:
        errors.append(
            f"{chain_file} does not cover {', '.join(missing)}. Replace it, or list in nginx_server_names only"
            f" names that it covers: {', '.join(subjects(chain[0])) or 'nothing'}."
        )
    return errors


def title(certificate: x509.Certificate) -> str:
    """Return a certificate's subject as text."""
    return certificate.subject.rfc4514_string() or "a certificate without a subject"


def date_errors(certificate: x509.Certificate, file: str, now: datetime) -> Iterator[str]:
    """Yield a message for a certificate that has expired or is not valid yet."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < now:
        yield f"{file}: {title(certificate)} expired on {end:%Y-%m-%d}. Use a newer certificate."
    if begin > now:
        yield f"{file}: {title(certificate)} is not valid before {begin:%Y-%m-%d}. Use an older certificate."


def subjects(certificate: x509.Certificate) -> list[str]:
    """Return all names and addresses of a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(SUBJECT).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName) + [str(each) for each in names.get_values_for_type(x509.IPAddress)]


def covers(certificate: x509.Certificate, name: str) -> bool:
    """Return whether a certificate covers a name or an address. As in browsers, a wildcard covers a single label."""
    has = {each.lower() for each in subjects(certificate)}
    if is_address(name):
        return str(ipaddress.ip_address(name)) in has
    name = name.lower()
    return name in has or "*." + name.partition(".")[2] in has


def acme_errors(names: list[str], balancers: list[str]) -> list[str]:
    """Return messages, each with the cause and the remedy; none if an ACME server can issue the certificate."""
    errors = []
    if not names or (odd := [name for name in names if is_address(name) or "." not in name or "*" in name]):
        errors.append(
            f"nginx_server_names has {', '.join(odd) if names else 'no name'}: ACME with HTTP-01 issues"
            " certificates for public DNS names only. List only such names, or set nginx_certificate_source to ca."
        )
    if len(balancers) > 1:
        errors.append(
            f"There are {len(balancers)} balancers ({', '.join(balancers)}), and the ACME server may contact any of"
            " them, but only the requesting balancer has the response. Keep a single balancer, or set"
            " nginx_certificate_source to files."
        )
    return errors


def is_address(name: str) -> bool:
    """Return whether a text is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"certificate_file_errors": certificate_file_errors, "acme_errors": acme_errors}
