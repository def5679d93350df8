"""Knocks at a port of a log server as a stranger would: without a certificate, with one of another
authority, and with one of another host. Only its own answer tells what is in force.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from rocksalt.nrpe.tls import REFUSED, SERVED, SILENT, TIMEOUT, UNTOLD
from rocksalt.pki import certificates

_OFFER = b"relp_version=0\nrelp_software=rocksalt\ncommands=syslog"
_OPEN = b"1 open %d %b\n" % (len(_OFFER), _OFFER)
_ANSWER = b"1 rsp "
_UNANSWERED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


@dataclass(frozen=True)
class Answers:
    """What strangers get; ``other_host`` is empty where there was no certificate to try."""

    without_certificate: str = SILENT
    foreign_certificate: str = SILENT
    other_host: str = ""
    plain: str = SILENT


def knock(address: str, port: int, name: str, other: tuple[str, str] | None = None) -> Answers:
    """Tries each way once; the certificate of another authority is for ``name``, whose port it is,
    and ``other`` has the files of the certificate and the key of another host.
    """
    where = (address, port)
    outcome = _secured(where, _context())
    if outcome == SILENT:
        return Answers()
    with tempfile.TemporaryDirectory(prefix="rocksalt-knock-") as folder:
        context = _context()
        context.load_cert_chain(_throw_away(Path(folder), name))
        foreign = _secured(where, context)
    another = ""
    if other:
        context = _context()
        context.load_cert_chain(*other)
        another = _secured(where, context)
    return Answers(outcome, foreign, another, _plain(where))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _throw_away(folder: Path, name: str) -> str:
    """A file with a certificate that signed itself, and its key."""
    key, now = certificates.new_key(), dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(certificates.subject(name))
        .issuer_name(certificates.subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(certificates.alternative(name), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "it.pem"
    path.write_text(certificates.key_pem(key) + certificates.pem(made))
    return str(path)


def _secured(where: tuple[str, int], context: ssl.SSLContext) -> str:
    """What somebody gets over TLS; with TLS 1.3 the refusal comes when the handshake is over for a
    client.
    """
    try:
        raw = socket.create_connection(where, TIMEOUT)
    except OSError:
        return SILENT
    try:
        with raw, context.wrap_socket(raw) as secured:
            return _asked(secured)
    except _UNANSWERED:
        return REFUSED
    except ssl.SSLError as error:
        return REFUSED if "ALERT" in (error.reason or "") else f"{UNTOLD}: {error}"
    except OSError as error:
        return f"{UNTOLD}: {error.strerror or error}"


def _plain(where: tuple[str, int]) -> str:
    """What somebody gets who does without TLS."""
    try:
        with socket.create_connection(where, TIMEOUT) as raw:
            return _asked(raw)
    except ConnectionError:
        return REFUSED
    except OSError as error:
        return f"{UNTOLD}: {error.strerror or error}"


def _asked(connection: socket.socket) -> str:
    """Whether a session of RELP begins on a connection. One that was ended before may still have
    said why.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(_OPEN)
    try:
        answer = connection.recv(len(_ANSWER))
    except TimeoutError:
        return f"{UNTOLD}: no answer in {TIMEOUT:g} seconds"
    return SERVED if answer.startswith(_ANSWER[:2]) else REFUSED
