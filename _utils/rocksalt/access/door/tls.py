"""TLS as RFC 9325 wants it: 1.3, and of 1.2 only what has forward secrecy and authenticates."""

from __future__ import annotations

import ssl

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
"""For TLS 1.2 only; those of 1.3 are all fit."""


def context(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """The server's side. With ``client_ca`` whoever shows no certificate of it gets no answer.

    :class:`OSError` (also ssl.SSLError) where a file is missing or wrong.
    """
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    found.set_ciphers(CIPHERS)
    found.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    found.load_cert_chain(certificate, key)
    if client_ca:
        found.load_verify_locations(client_ca)
        found.verify_mode = ssl.CERT_REQUIRED
    return found
