"""Finds what is wrong with a certificate that somebody brings, or wants, before a machine is touched."""

import ipaddress
from datetime import UTC, datetime

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
except ImportError as error:  # it comes with ansible-core
    raise AnsibleFilterError(f"{error}: run `make venv`") from error

SUBJECT = x509.SubjectAlternativeName


def certificate_file_errors(names, chain_file, key_file, now=None):
    """Return messages, each with the culprit and the remedy; none if these files serve visitors of all names."""
    errors, chain, key = [], [], None
    try:
        with open(chain_file, "rb") as file:
            chain = x509.load_pem_x509_certificates(file.read())
    except (OSError, ValueError) as error:
        errors.append(f"certificates_chain_file {chain_file!r} holds no certificate in PEM ({error}). Name one.")
    try:
        with open(key_file, "rb") as file:
            key = load_pem_private_key(file.read(), password=None)
    except (OSError, ValueError, TypeError) as error:
        errors.append(f"certificates_key_file {key_file!r} holds no key without a passphrase in PEM ({error}).")
    if not chain:
        return errors
    if key and key.public_key() != chain[0].public_key():
        errors.append(f"{key_file} is not the key of the first certificate in {chain_file}. Name the one that is.")
    for certificate in chain:
        errors += date_errors(certificate, chain_file, now or datetime.now(UTC))
    for one, issuer in zip(chain, chain[1:], strict=False):
        if one.issuer != issuer.subject:
            errors.append(
                f"{chain_file}: {title(one)} is followed by {title(issuer)}, which has not signed it."
                " Begin with the server's own, and let each be followed by that of its issuer."
            )
    if missing := [name for name in names if not covers(chain[0], name)]:
        errors.append(
            f"{chain_file} is not for {', '.join(missing)}. Bring one that is, or name in nginx_server_names only what"
            f" it is for: {', '.join(subjects(chain[0])) or 'nothing'}."
        )
    return errors


def title(certificate):
    """Return a certificate's subject, as people read it."""
    return certificate.subject.rfc4514_string() or "a certificate without a subject"


def date_errors(certificate, file, now):
    """A certificate is for a time."""
    if certificate.not_valid_after_utc < now:
        yield f"{file}: {title(certificate)} ended on {certificate.not_valid_after_utc:%Y-%m-%d}. Bring a newer one."
    if certificate.not_valid_before_utc > now:
        yield f"{file}: {title(certificate)} begins on {certificate.not_valid_before_utc:%Y-%m-%d}. Bring an older one."


def subjects(certificate):
    """Return all names and addresses that a certificate is for, as text."""
    try:
        names = certificate.extensions.get_extension_for_class(SUBJECT).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName) + [str(each) for each in names.get_values_for_type(x509.IPAddress)]


def covers(certificate, name):
    """Tell whether a certificate is for a name or an address. A wildcard stands for one label, as browsers see it."""
    has = {each.lower() for each in subjects(certificate)}
    if is_address(name):
        return str(ipaddress.ip_address(name)) in has
    name = name.lower()
    return name in has or "*." + name.partition(".")[2] in has


def acme_errors(names, balancers):
    """Return messages, each with the culprit and the remedy; none if an ACME server could be asked."""
    errors = []
    if not names or (odd := [name for name in names if is_address(name) or "." not in name or "*" in name]):
        errors.append(
            f"nginx_server_names has {', '.join(odd) if names else 'no name'}: ACME, by a file on the balancer, gives"
            " certificates for public DNS names alone. List only such names, or set nginx_certificate_source to ca."
        )
    if len(balancers) > 1:
        errors.append(
            f"There are {len(balancers)} balancers ({', '.join(balancers)}), and the ACME server may ask any of them"
            " for what only one knows. Keep one, or set nginx_certificate_source to files and bring a certificate."
        )
    return errors


def is_address(name):
    """Tell whether a text is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Name the filters."""
        return {"certificate_file_errors": certificate_file_errors, "acme_errors": acme_errors}
