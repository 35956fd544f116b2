"""A certificate authority of the tests' own, made on the fly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
ISSUER = "Makers of test pictures"


def write_certificate(folder, kind="P-256", stem="signer"):
    """Write a chain of two certificates and the key: their paths."""
    authority, signer = ec.generate_private_key(ec.SECP256R1()), KEYS[kind]()
    chain = [
        _certificate("signer", signer, authority, is_authority=False),
        _certificate("authority", authority, authority, is_authority=True),
    ]
    certificates, key = folder / f"{stem}.pem", folder / f"{stem}.key"
    pem = serialization.Encoding.PEM
    certificates.write_bytes(b"".join(c.public_bytes(pem) for c in chain))
    no_password = serialization.NoEncryption()
    key.write_bytes(signer.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    return certificates, key


def _name(common_name):
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, ISSUER),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ])  # fmt: skip


def _certificate(subject, key, authority, *, is_authority):
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"),
        False,
    )  # fmt: skip
    usage |= {
        "digital_signature": not is_authority,
        "key_cert_sign": is_authority,
        "crl_sign": is_authority,
    }
    of_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(of_authority, critical=False)
    )
    if not is_authority:
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purposes, critical=False)
    return builder.sign(authority, hashes.SHA256())
