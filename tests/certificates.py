"""Certificates of loopback for tests: good ones, and all that can be wrong with one."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Pair:
    """Two files: a self-signed certificate, which clients may take as their authority, and its key."""

    def __init__(self, folder: Path, name: str = "server") -> None:
        self.cert = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"
        self.serial = 0

    @property
    def env(self) -> dict[str, str]:
        return {"IMGPRO_SERVER_TLS_CERT": str(self.cert), "IMGPRO_SERVER_TLS_KEY": str(self.key)}


def make_pair(
    folder: Path,
    name: str = "server",
    *,
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = 90 * DAY,
    passphrase: bytes | None = None,
    weak: bool = False,
) -> Pair:
    """Make a pair, or write another one into the same files."""
    pair = Pair(folder, name)
    key = rsa.generate_private_key(65537, 1024) if weak else ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "img.test")])
    now = datetime.datetime.now(datetime.UTC)
    pair.serial = x509.random_serial_number()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(pair.serial)
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"), x509.DNSName("img.test")]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    closed = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, closed))
    return pair
