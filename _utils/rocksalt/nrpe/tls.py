"""Knocks at a running NRPE as a stranger would: without a certificate, with old TLS, without TLS,
and from an address that is not heard. Nothing but NRPE's own answer tells what is in force.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import ssl
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

REFUSED, SERVED, SILENT = "refused", "served", "does not answer"
UNTOLD = "cannot be tried"
CLOSED, HEARD, NOT_HEARD = "ends the connection before TLS", "heard", "not heard"
TIMEOUT = 5.0
_ASKING, _ANSWERING = 1, 2
_PACKET = struct.Struct("!hhIh1024s2x")
_EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
_ANONYMOUS = "aNULL:@SECLEVEL=0"
_ALERT, _HANDSHAKE, _SERVER_HELLO, _FIRST = 21, 22, 2, 7
"""What a record begins with, and how much of the first one has to be seen."""
_NOT_OFFERED = (40, 70, 71)
"""Alerts: no such ciphers, no such version, not safe enough."""
_CERTIFICATE_REQUIRED, _HANDSHAKE_FAILURE = "CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE"
"""What TLS 1.3 and TLS 1.2 say to who shows no certificate; the second says more than that."""
_ENDED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_VERSIONS = {b"\3\1": "TLSv1", b"\3\2": "TLSv1.1", b"\3\3": "TLSv1.2"}


@dataclass(frozen=True)
class Answers:
    """What became of each way to ask. ``certificate`` is the SHA-256 of the one that NRPE showed,
    empty where it showed none.

    ``stranger`` is None where every address of this host is heard.
    """

    without_certificate: str = SILENT
    old_tls: str = SILENT
    anonymous: str = SILENT
    plain: str = SILENT
    stranger: str | None = None
    certificate: str = ""


Knock = Callable[[str, int, str], Answers]
"""Address, port, and an own address that is not heard; empty where all are."""


def query() -> bytes:
    """The question for NRPE's version, in the form of every release."""
    empty = _PACKET.pack(2, _ASKING, 0, 0, b"_NRPE_CHECK")
    return _PACKET.pack(2, _ASKING, zlib.crc32(empty), 0, b"_NRPE_CHECK")


def knock(address: str, port: int, stranger: str) -> Answers:
    """Asks in each way once, from the address itself, which is heard."""
    where = (address, port)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        outcome, certificate = _modern(where)
        if outcome == SILENT:
            return Answers()
        newest = ssl.TLSVersion.TLSv1_2
        return Answers(
            without_certificate=outcome,
            old_tls=_with(where, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, _EVERYTHING),
            anonymous=_with(where, newest, newest, _ANONYMOUS),
            plain=_plain(where),
            stranger=_stranger(where, stranger) if stranger else None,
            certificate=certificate,
        )


def unheard(address: str, allowed: list[str]) -> str:
    """The loopback address, unless that is heard: then empty."""
    version = ipaddress.ip_address(address).version
    own = ipaddress.ip_address("127.0.0.1" if version == 4 else "::1")
    heard = any(own in ipaddress.ip_network(network) for network in allowed)
    return "" if heard else str(own)


def source(towards: str) -> str:
    """The own address from which another one is reached; empty where there is no way. Nothing is
    sent.
    """
    version = ipaddress.ip_address(towards).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def is_own(address: str) -> bool:
    """Whether an address is one of this host's, on which a server can listen."""
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def free_port(address: str) -> int:
    """A TCP port on which nothing listens at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def answers_in(
    seconds: float, address: str, port: int, alive: Callable[[], bool] = lambda: True
) -> bool:
    """Whether something listens there in time, while what is to listen is ``alive``."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            return True
        if time.monotonic() > deadline or not alive():
            return False
        time.sleep(0.1)


def _context(
    oldest: ssl.TLSVersion, newest: ssl.TLSVersion, ciphers: str = _EVERYTHING
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version, context.maximum_version = oldest, newest
    return context


def _connect(where: tuple[str, int], own: str = "") -> socket.socket:
    return socket.create_connection(where, TIMEOUT, (own or where[0], 0))


def _modern(where: tuple[str, int]) -> tuple[str, str]:
    """What somebody without a certificate gets, and the hash of the certificate that is shown. With
    TLS 1.3 the refusal comes when the handshake is over for a client.
    """
    shown = ""
    context = _context(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED, "DEFAULT")
    try:
        raw = _connect(where)
    except OSError:
        return SILENT, ""
    with raw:
        try:
            with context.wrap_socket(raw) as secured:
                der = secured.getpeercert(binary_form=True)
                shown = hashlib.sha256(der).hexdigest() if der else ""
                return _asked(secured), shown
        except OSError as error:
            if _alert(error) == _CERTIFICATE_REQUIRED or _lacks_certificate(where, error):
                return REFUSED, shown
            ended = isinstance(error, _ENDED) and not shown
            return CLOSED if ended else _untold(error), shown


def _lacks_certificate(where: tuple[str, int], error: OSError) -> bool:
    """Whether TLS 1.2 failed for the lack of a certificate, and not of a cipher that both have."""
    two = ssl.TLSVersion.TLSv1_2
    failed = _alert(error) == _HANDSHAKE_FAILURE
    return failed and _with(where, two, two, "DEFAULT").startswith(SERVED)


def _alert(error: OSError) -> str:
    """What the other side said in TLS that it does not like; empty where it said nothing."""
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return reason.partition("ALERT_")[2]


def _untold(error: OSError) -> str:
    """What is neither an answer nor a refusal."""
    if isinstance(error, TimeoutError):
        return f"{UNTOLD}: no answer in {TIMEOUT:g} seconds"
    return f"{UNTOLD}: {getattr(error, 'reason', None) or error.strerror or error}"


def _with(
    where: tuple[str, int], oldest: ssl.TLSVersion, newest: ssl.TLSVersion, ciphers: str
) -> str:
    """What a client gets that knows nothing better: the first thing that the server says is that it
    takes the offer, or an alert that it takes none such. Whether a certificate is missing comes
    later and is told by another way to ask. What this host's own TLS cannot offer, nobody can tell.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context = _context(oldest, newest, ciphers)
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing).do_handshake()
        with _connect(where) as raw:
            raw.sendall(outgoing.read())
            answer = raw.recv(_FIRST, socket.MSG_WAITALL)
    except OSError as error:
        return _untold(error)
    if len(answer) < _FIRST:
        return f"{UNTOLD}: it ends the connection without a word"
    if (answer[0], answer[5]) == (_HANDSHAKE, _SERVER_HELLO):
        return f"{SERVED} with {_VERSIONS.get(answer[1:3], 'old TLS')}"
    if answer[0] == _ALERT and answer[6] in _NOT_OFFERED:
        return REFUSED
    return f"{UNTOLD}: it says {answer.hex(' ')}"


def _plain(where: tuple[str, int]) -> str:
    """What somebody gets who does without TLS; an alert of TLS, or the end, is a refusal."""
    try:
        raw = _connect(where)
    except OSError as error:
        return _untold(error)
    try:
        with raw:
            return _asked(raw)
    except _ENDED:
        return REFUSED
    except OSError as error:
        return _untold(error)


def _asked(connection: socket.socket) -> str:
    """Whether a question is answered on a connection. One that was ended before it came may still
    have said why.
    """
    with contextlib.suppress(OSError):
        connection.sendall(query())
    answer = connection.recv(_PACKET.size)
    served = len(answer) >= 4 and struct.unpack("!hh", answer[:4])[1] == _ANSWERING
    secured = isinstance(connection, ssl.SSLSocket)
    return SERVED if served else f"{UNTOLD}: no answer of NRPE" if secured else REFUSED


def _stranger(where: tuple[str, int], own: str) -> str:
    """What somebody gets from an address that is not heard: NRPE ends the connection before TLS
    begins.
    """
    context = _context(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED, "DEFAULT")
    try:
        raw = _connect(where, own)
    except OSError as error:
        return _untold(error)
    try:
        with raw, context.wrap_socket(raw):
            return HEARD
    except _ENDED:
        return NOT_HEARD
    except OSError as error:
        return HEARD if _alert(error) else _untold(error)
