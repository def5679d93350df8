"""X.509 as TLS between hosts needs it: reading certificates, judging them, and asking for one."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rocksalt.errors import Refused

Certificate = x509.Certificate
Request = x509.CertificateSigningRequest
SERVER, CLIENT = "server", "client"
USAGES = {SERVER: ExtendedKeyUsageOID.SERVER_AUTH, CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}
_WEAK = (hashes.MD5, hashes.SHA1)
_SHORTEST_RSA, _SHORTEST_EC = 2048, 256
_BROKEN = (ValueError, TypeError, UnsupportedAlgorithm)

# Reading ------------------------------------------------------------------------------------------


def load(text: str, what: str) -> list[Certificate]:
    """The certificates of a PEM text, in its order; :class:`Refused` names ``what`` it was."""
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except _BROKEN:
        raise Refused(
            f"{what}: is no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
        ) from None


def load_one(text: str, what: str) -> Certificate:
    """The only certificate of a PEM text."""
    found = load(text, what)
    if len(found) != 1:
        raise Refused(f"{what}: has {len(found)} certificates; each would be believed, so name one")
    return found[0]


def load_key(text: str, what: str) -> Any:
    """A private key without a password. What is wrong with it never shows what it is."""
    try:
        return serialization.load_pem_private_key(text.encode(), password=None)
    except _BROKEN:
        raise Refused(
            f"{what}: is no private key in PEM without a password, such as openssl genpkey makes"
        ) from None


def load_request(text: str, what: str) -> Request:
    """A request, signed with the key that it is for."""
    try:
        found = x509.load_pem_x509_csr(text.encode())
        valid = found.is_signature_valid
        _ = found.subject, found.extensions
    except (*_BROKEN, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Refused(f"{what}: is no certificate request in PEM") from None
    if not valid:
        raise Refused(f"{what}: is not signed with its own key")
    return found


def pem(certificate: Certificate | Request) -> str:
    """In PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: Any) -> str:
    """A private key in PEM, without a password."""
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    )


def fingerprint(certificate: Certificate) -> str:
    """SHA-256 in hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def serial(certificate: Certificate) -> str:
    """The serial number as openssl prints it."""
    return f"{certificate.serial_number:X}"


def expires(certificate: Certificate) -> dt.datetime:
    """The last moment of a certificate, in UTC."""
    return _utc(certificate, "not_valid_after")


def begins(certificate: Certificate) -> dt.datetime:
    """Its first moment, in UTC."""
    return _utc(certificate, "not_valid_before")


def _utc(certificate: Certificate, name: str) -> dt.datetime:
    """Older releases of the library know a time without its zone alone."""
    aware: dt.datetime | None = getattr(certificate, f"{name}_utc", None)
    if aware is not None:
        return aware
    naive: dt.datetime = getattr(certificate, name)
    return naive.replace(tzinfo=dt.timezone.utc)


def days_left(certificate: Certificate, now: dt.datetime) -> int:
    """Whole days until its end; negative afterwards."""
    return (expires(certificate) - now).days


def addresses(described: Certificate | Request) -> list[str]:
    """The addresses that a certificate, or a request, is for."""
    extension = _extension(described, x509.SubjectAlternativeName)
    return [str(it) for it in extension.get_values_for_type(x509.IPAddress)] if extension else []


def names(described: Certificate | Request) -> list[str]:
    """The names and addresses that a certificate, or a request, is for."""
    extension = _extension(described, x509.SubjectAlternativeName)
    if extension is None:
        return []
    found = [str(name) for name in extension.get_values_for_type(x509.DNSName)]
    return found + addresses(described)


def common_name(described: Certificate | Request) -> str:
    """The name of its owner; empty where it has none, or several."""
    found = described.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def usages(certificate: Certificate) -> list[str]:
    """What it is for: ``server``, ``client``; both where it does not say."""
    extension = _extension(certificate, x509.ExtendedKeyUsage)
    if extension is None:
        return [SERVER, CLIENT]
    return [name for name, usage in USAGES.items() if usage in extension]


def _extension(described: Certificate | Request, kind: Any) -> Any:
    try:
        return described.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


# Judging ------------------------------------------------------------------------------------------


def fits(certificate: Certificate, key: Any) -> bool:
    """Whether a private key is the one of a certificate."""
    return _public(certificate.public_key()) == _public(key.public_key())


def _public(key: Any) -> bytes:
    return bytes(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def time_problems(certificate: Certificate, what: str, now: dt.datetime) -> Iterator[str]:
    """Why it is not valid now."""
    if now > expires(certificate):
        yield f"{what}: expired on {expires(certificate):%Y-%m-%d}; put a new one there"
    if now < begins(certificate):
        yield f"{what}: is not valid before {begins(certificate):%Y-%m-%d %H:%M} UTC"


def authority_problems(certificate: Certificate, what: str) -> Iterator[str]:
    """Why it is no certificate of an authority."""
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        yield f"{what}: is no certificate of an authority (CA:TRUE)"
    use = _extension(certificate, x509.KeyUsage)
    if use is not None and not use.key_cert_sign:
        yield f"{what}: may not sign certificates by its key usage"


def root_problems(certificate: Certificate, what: str) -> Iterator[str]:
    """Why OpenSSL does not take it for the end of a chain."""
    yield from authority_problems(certificate, what)
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, *_BROKEN):
        yield (
            f"{what}: was signed by another authority, and OpenSSL would refuse everybody; give "
            "the one that signed itself, and those between with each certificate"
        )


def chain_problems(chain: Sequence[Certificate], authority: Certificate, what: str) -> list[str]:
    """Why a certificate, with those between, does not come from an authority."""
    for lower, upper in zip(chain, [*chain[1:], authority], strict=True):
        try:
            lower.verify_directly_issued_by(upper)
        except (InvalidSignature, *_BROKEN):
            return [
                f"{what}: {_subject(lower)} was not signed by {_subject(upper)}; it needs the "
                "certificates between it and the authority, in this order"
            ]
    return [p for it in chain[1:] for p in authority_problems(it, f"{what}: {_subject(it)}")]


def _subject(certificate: Certificate) -> str:
    return common_name(certificate) or certificate.subject.rfc4514_string() or "a certificate"


def strength_problems(certificate: Certificate, what: str) -> Iterator[str]:
    """Why OpenSSL's usual security level refuses it."""
    if isinstance(certificate.signature_hash_algorithm, _WEAK):
        yield f"{what}: is signed with {certificate.signature_hash_algorithm.name}; use sha256"
    yield from key_problems(certificate.public_key(), what)


def key_problems(key: Any, what: str) -> Iterator[str]:
    """Why a public key is too weak."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORTEST_RSA:
        yield f"{what}: has an RSA key of {key.key_size} bits; {_SHORTEST_RSA} are the least"
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _SHORTEST_EC:
        yield f"{what}: has an EC key of {key.key_size} bits; {_SHORTEST_EC} are the least"
    kinds = (
        *(rsa.RSAPublicKey, ec.EllipticCurvePublicKey),
        *(ed25519.Ed25519PublicKey, ed448.Ed448PublicKey),
    )
    if not isinstance(key, kinds):
        yield f"{what}: has a key of a kind that TLS does not know; use RSA or EC"


def problems(
    chain: Sequence[Certificate],
    authority: Certificate,
    what: str,
    now: dt.datetime | None = None,
    usage: str = SERVER,
) -> list[str]:
    """What is wrong with the certificate of a server, or of a client, the first of ``chain``;
    without ``now`` whatever the time is.
    """
    found = list(strength_problems(chain[0], what))
    if now:
        found += time_problems(chain[0], what, now)
        for it in chain[1:]:
            found += time_problems(it, f"{what}: {_subject(it)}", now)
    if usage not in usages(chain[0]):
        found.append(f"{what}: is for {', '.join(usages(chain[0])) or 'others'}, not for a {usage}")
    return found + chain_problems(chain, authority, what)


# Asking -------------------------------------------------------------------------------------------


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new private key: EC, on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def request(key: Any, name: str, *others: str) -> str:
    """A request, in PEM, for a certificate of a host and its other names and addresses."""
    return pem(
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject(name))
        .add_extension(alternative(name, *others), critical=False)
        .sign(key, hashes.SHA256())
    )


def subject(name: str) -> x509.Name:
    """The name of an owner."""
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError:
        raise Refused(f"{name!r} is too long for a certificate; 64 characters fit") from None


def alternative(name: str, *others: str) -> x509.SubjectAlternativeName:
    """The names and addresses that a certificate is for; the first one is a name whatever it looks
    like.
    """
    return x509.SubjectAlternativeName([_dns_name(name), *map(_general_name, filter(None, others))])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return _dns_name(name)


def _dns_name(name: str) -> x509.GeneralName:
    try:
        return x509.DNSName(name)
    except ValueError:
        raise Refused(f"{name!r} has letters that a certificate cannot have; use ASCII") from None
