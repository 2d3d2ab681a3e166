"""CAs and certificates for tests."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass
class Pair:
    """A certificate and its key, and the CA's certificate, each a path."""

    certificate: Path
    key: Path
    ca: Path

    def redis_options(self) -> list[str | Path]:
        """Return the options of redis-server for this pair."""
        files = {"cert": self.certificate, "key": self.key, "ca-cert": self.ca}
        return ["--tls-auth-clients", "no", *(word for name in files for word in (f"--tls-{name}-file", files[name]))]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _subject(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """A CA with its files in a directory."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self.name = folder, name
        self.file = folder / f"{name}.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
            + ("crl_sign", "encipher_only", "decipher_only"),
            False,
        )
        builder = self._builder(name, self._key, -1, 3650)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, **usage), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, *names: str, title: str = "server", begins: float = -1, days: float = 90) -> Pair:
        """Create a certificate for these names and addresses, valid from `begins` until `days` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(title, key, begins, days)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_subject, names)), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = Pair(self.folder / f"{self.name}-{title}.crt", self.folder / f"{self.name}-{title}.key", self.file)
        pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def _builder(
        self, title: str, key: ec.EllipticCurvePrivateKey, begins: float, days: float
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        public = key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(_name(title))
            .issuer_name(_name(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
