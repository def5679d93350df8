"""A log server that speaks RELP over TLS in a thread, as good or as bad as a test wants it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rocksalt.logstash.shipping import relp

HERE = "127.0.0.1"


class Authority:
    """Signs certificates into files of a folder: ``NAME.pem`` and ``NAME.key``."""

    def __init__(self, folder: Path, name: str = "ca"):
        self.folder, self.name = folder, _named(name)
        self.path = str(folder / f"{name}.pem")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, self._sign(self.name, self._key, 10, authority=True), self._key)

    def issue(self, name: str, days: int = 10, file: str = "") -> tuple[str, str]:
        """The paths of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(file or name, self._sign(_named(name), key, days, san=name), key)
        return str(self.folder / f"{file or name}.pem"), str(self.folder / f"{file or name}.key")

    def _sign(self, subject, key, days, san="", authority=False):
        now = dt.datetime.now(dt.timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=20))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
        )
        if san:
            names = x509.SubjectAlternativeName([x509.DNSName(san)])
            made = made.add_extension(names, critical=False)
        return made.sign(self._key, hashes.SHA256())

    def _write(self, name, certificate, key):
        pem = serialization.Encoding.PEM
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(pem, form, plain))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class LogServer:
    """Takes lines of hosts that the authority knows. ``acknowledges``: how many more lines it
    acknowledges, None for all; ``opens``: whether it answers at all; ``answer``: what it says.
    """

    def __init__(self, authority: Authority, name: str = "logs1", days: int = 10):
        self.certificate = authority.issue(name, days)
        self.authority, self.name = authority, name
        self.lines: list[bytes] = []
        self.acknowledges: int | None = None
        self.opens, self.answer = True, b"200 OK"
        self.accepted = 0
        self.clients: list[str] = []
        self._connections: list[socket.socket] = []
        self._listen(0)

    def _listen(self, port: int) -> None:
        self._socket = socket.create_server((HERE, port))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    @property
    def settings(self) -> dict[str, object]:
        """Its place in shipper.json."""
        return {"host": HERE, "port": self.port, "name": self.name}

    def events(self) -> list[dict]:
        """What it received."""
        return [json.loads(it) for it in list(self.lines)]

    def messages(self, dataset: str = "journal") -> list[str]:
        """The messages of a dataset."""
        return [it["message"] for it in self.events() if it["event"]["dataset"] == dataset]

    def kill(self) -> None:
        """Ends all connections and listens no more."""
        for it in [self._socket, *self._connections]:
            with contextlib.suppress(OSError):
                it.shutdown(socket.SHUT_RDWR)
            it.close()
        self._connections.clear()

    def revive(self) -> None:
        """Listens again, with what it acknowledges as at the beginning."""
        self.acknowledges = None
        self._listen(self.port)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._connections.append(raw)
            threading.Thread(target=self._speak, args=(raw,), daemon=True).start()

    def _speak(self, raw: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate)
        context.load_verify_locations(self.authority.path)
        context.verify_mode = ssl.CERT_REQUIRED
        with (
            contextlib.suppress(OSError, relp.Garbled, ValueError),
            context.wrap_socket(raw, server_side=True) as secured,
        ):
            self._connections.append(secured)
            shown = secured.getpeercert() or {}
            self.clients.append(str(shown["serialNumber"]))
            parser = relp.Parser()
            while data := secured.recv(65_536):
                secured.sendall(b"".join(map(self._reply, parser.feed(data))))

    def _reply(self, frame: relp.Frame) -> bytes:
        if frame.command == relp.OPEN:
            offer = b"200 OK\nrelp_version=0\ncommands=syslog"
            return relp.encode(frame.number, relp.ANSWER, offer) if self.opens else b""
        if frame.command == relp.CLOSE:
            return relp.encode(frame.number, relp.ANSWER)
        self.lines.append(frame.data)
        if self.acknowledges is not None:
            if not self.acknowledges:
                return b""
            self.acknowledges -= 1
        return relp.encode(frame.number, relp.ANSWER, self.answer)
