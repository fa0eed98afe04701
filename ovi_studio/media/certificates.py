"""Certificates for signing: what kind a key is, and a local certificate that nobody else vouches for.

Uses `cryptography` (extra `sign`), imported when it is needed.
"""

import datetime
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.extras import import_extra

_VALID = datetime.timedelta(days=3650)
_NAME = "Ovi Studio local certificate"


def signing_algorithm(key: Path) -> str:
    """The algorithm of C2PA for a private key (PEM, without a password); raises `JobError` if it has none."""
    import_extra("cryptography", "sign", "Signing")
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        raise JobError(
            f"The key {key} cannot be read ({error.strerror}); check the path and its permissions."
        ) from error
    except (ValueError, TypeError) as error:
        raise JobError(f"{key} is not a private key in PEM form without a password; convert it first.") from error
    match found:
        case ec.EllipticCurvePrivateKey(key_size=256 | 384 | 521 as size):
            return {256: "ES256", 384: "ES384", 521: "ES512"}[size]
        case rsa.RSAPrivateKey():
            return "PS256"
        case ed25519.Ed25519PrivateKey():
            return "ED25519"
    raise JobError(f"{key} is a kind of key that C2PA does not use; take one on a NIST curve, RSA or Ed25519.")


def make_local_certificate() -> tuple[bytes, bytes]:
    """A new certificate with the authority that issued it, and its key, in PEM form.

    The authority's key is thrown away: it vouches for one certificate only. C2PA refuses a certificate that vouches for
    itself (C2PA specification 2.1, 14.5: X.509 certificates).
    """
    import_extra("cryptography", "sign", "Making a certificate")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def issue(subject: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        usage |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(f"{_NAME} authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + _VALID)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        )
        if not authority:
            purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def name(text: str) -> x509.Name:
        attributes = [(x509.NameOID.ORGANIZATION_NAME, _NAME), (x509.NameOID.COMMON_NAME, text)]
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])

    own, authority = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = issue(_NAME, own, authority, False) + issue(f"{_NAME} authority", authority, authority, True)
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return chain, key
