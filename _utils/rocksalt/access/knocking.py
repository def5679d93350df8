"""Knocks at salt-api as a stranger would: with modern TLS, with old TLS, with ciphers that are not
safe, and without TLS. Only its own answer tells what is in force.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from rocksalt.nrpe.tls import REFUSED, SERVED, SILENT, TIMEOUT, UNTOLD

NEED_CERTIFICATE = "refused without a certificate"
_ASK = b"GET / HTTP/1.1\r\nHost: salt-api\r\nConnection: close\r\n\r\n"
_ENOUGH = 4096
_EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
_UNSAFE = "aNULL:eNULL:kRSA:3DES:RC4:@SECLEVEL=0"
"""Without a certificate, without encryption, without forward secrecy, or broken."""
_NEVERTHELESS = b"400"
"""How a server of HTTPS answers those who do without TLS."""
_ENDED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_LACKS = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
"""What TLS 1.3 and TLS 1.2 say to who shows no certificate."""
_OWN = ("NO_CIPHERS_AVAILABLE", "NO_CIPHER_MATCH", "NO_PROTOCOLS_AVAILABLE")
"""What this host's own TLS cannot offer."""


@dataclass(frozen=True)
class Answers:
    """What became of each way to ask. ``certificate`` is the SHA-256 of the one that was shown,
    ``status`` what HTTP said, such as ``200``; both are empty where there was none.
    """

    modern: str = SILENT
    old_tls: str = SILENT
    unsafe_ciphers: str = SILENT
    plain: str = SILENT
    certificate: str = ""
    status: str = ""


def knock(address: str, port: int) -> Answers:
    """Asks in each way once."""
    where = (address, port)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        outcome, certificate, status = _modern(where)
        if outcome == SILENT:
            return Answers()
        two = ssl.TLSVersion.TLSv1_2
        return Answers(
            modern=outcome,
            old_tls=_with(where, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, _EVERYTHING),
            unsafe_ciphers=_with(where, two, two, _UNSAFE),
            plain=_plain(where),
            certificate=certificate,
            status=status,
        )


def answers_in(
    seconds: float,
    address: str,
    port: int,
    alive: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Whether something takes connections there in time, while what is to is ``alive``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((address, port), 1):
                return True
        except OSError:
            if time.monotonic() > deadline or not alive():
                return False
        sleep(0.2)


def bound(address: str, port: int) -> int:
    """What the kernel says against listening there, as a number; 0 where that is nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((address, port))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _context(
    oldest: ssl.TLSVersion, newest: ssl.TLSVersion, ciphers: str = "DEFAULT"
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version, context.maximum_version = oldest, newest
    return context


def _modern(where: tuple[str, int]) -> tuple[str, str, str]:
    """What somebody gets who does it right, the hash of the certificate, and the status of HTTP.
    With TLS 1.3 a refusal comes when the handshake is over for a client.
    """
    try:
        raw = socket.create_connection(where, TIMEOUT)
    except OSError:
        return SILENT, "", ""
    shown = ""
    context = _context(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    try:
        with raw, context.wrap_socket(raw) as secured:
            der = secured.getpeercert(binary_form=True)
            shown = hashlib.sha256(der).hexdigest() if der else ""
            status = _asked(secured)
    except OSError as error:
        lacks = isinstance(error, ssl.SSLError) and (error.reason or "").endswith(_LACKS)
        if lacks or (isinstance(error, _ENDED) and shown and _in_handshake(where)):
            return NEED_CERTIFICATE, shown, ""
        return _untold(error), shown, ""
    return SERVED if status else f"{UNTOLD}: no answer of HTTP", shown, status


def _in_handshake(where: tuple[str, int]) -> bool:
    """Whether TLS 1.2 is refused, which asks for a certificate in its handshake: with TLS 1.3 the
    end of a connection may come before the word that says why.
    """
    return _with(where, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "DEFAULT") == REFUSED


def _with(
    where: tuple[str, int], oldest: ssl.TLSVersion, newest: ssl.TLSVersion, ciphers: str
) -> str:
    """What a client gets that knows nothing better."""
    try:
        context = _context(oldest, newest, ciphers)
        with socket.create_connection(where, TIMEOUT) as raw, context.wrap_socket(raw) as secured:
            return f"{SERVED} with {secured.version()} {(secured.cipher() or ('',))[0]}"
    except _ENDED:
        return REFUSED
    except ssl.SSLError as error:
        if error.reason in _OWN:
            return f"{UNTOLD}: the TLS of this host cannot offer it"
        return REFUSED if "ALERT" in (error.reason or "") else _untold(error)
    except OSError as error:
        return _untold(error)


def _plain(where: tuple[str, int]) -> str:
    """What somebody gets who does without TLS."""
    try:
        with socket.create_connection(where, TIMEOUT) as raw:
            status = _asked(raw)
    except ConnectionError:
        return REFUSED
    except OSError as error:
        return _untold(error)
    return REFUSED if not status or status == _NEVERTHELESS.decode() else f"{SERVED} ({status})"


def _asked(connection: socket.socket) -> str:
    """The status of HTTP; empty where the answer is none."""
    with contextlib.suppress(*_ENDED):  # it may still have said why
        connection.sendall(_ASK)
    answer = b""
    while b"\n" not in answer and len(answer) < _ENOUGH:
        part = connection.recv(_ENOUGH)
        if not part:
            break
        answer += part
    words = answer.split(None, 2)
    known = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit()
    return words[1].decode() if known else ""


def _untold(error: OSError) -> str:
    """What is neither an answer nor a refusal."""
    if isinstance(error, TimeoutError):
        return f"{UNTOLD}: no answer in {TIMEOUT:g} seconds"
    return f"{UNTOLD}: {getattr(error, 'reason', None) or error.strerror or error}"
