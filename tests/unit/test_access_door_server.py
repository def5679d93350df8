"""The door's server on a real socket: TLS, deadlines, and no address that takes all of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import importlib.util
import ipaddress
import json
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rocksalt.access import DOOR, door
from rocksalt.access.door import tls
from rocksalt.pki import certificates

server = pytest.importorskip("rocksalt.access.door.server", reason="CherryPy comes with Salt")


def make(
    folder: Path, name: str, signer: tuple[x509.Certificate, Any] | None, usage: Any = None
) -> tuple[x509.Certificate, Any]:
    """A certificate and its key, also as files; without a signer it is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[0].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([here]), False)
        .add_extension(x509.BasicConstraints(signer is None, None), True)
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    made = builder.sign(signer[1] if signer else key, hashes.SHA256())
    (folder / f"{name}.pem").write_text(certificates.pem(made))
    (folder / f"{name}.key").write_text(certificates.key_pem(key))
    return made, key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates: the server's, two clients' of an authority, and one of another."""
    folder = tmp_path_factory.mktemp("tls")
    authority, other = make(folder, "authority", None), make(folder, "other", None)
    make(folder, "api", authority, ExtendedKeyUsageOID.SERVER_AUTH)
    make(folder, "laptop", authority, ExtendedKeyUsageOID.CLIENT_AUTH)
    make(folder, "stranger", other, ExtendedKeyUsageOID.CLIENT_AUTH)
    return folder


@dataclass
class Running:
    port: int
    files: Path

    def client(self, name: str = "") -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.files / "authority.pem"))
        if name:
            context.load_cert_chain(self.files / f"{name}.pem", self.files / f"{name}.key")
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)

    def ask(self, name: str = "") -> Any:
        connection = self.client(name)
        connection.request("GET", "/")
        return json.load(connection.getresponse())

    def plain(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10, (source, 0))


def application(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    body = json.dumps([environ["rocksalt.certificate"], environ["wsgi.url_scheme"]]).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


@contextlib.contextmanager
def running(files: Path, client_ca: str = "", threads: int = 4) -> Iterator[Running]:
    context = tls.context(str(files / "api.pem"), str(files / "api.key"), client_ca)
    made = server.server(("127.0.0.1", 0), application, context, threads, 1000)
    made.prepare()
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        yield Running(made.bind_addr[1], files)
    finally:
        made.stop()
        thread.join(10)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READING", 0.4)
    monkeypatch.setattr(server, "LINGERING", 0.1)
    monkeypatch.setattr(logging.getLogger("rocksalt.api"), "propagate", False)


def test_it_answers_over_tls_alone(files: Path) -> None:
    with running(files) as it:
        assert it.ask() == ["", "https"]
        with it.plain() as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"HTTP" not in plain.recv(1000)


def test_with_an_authority_only_its_clients_have_an_answer(files: Path) -> None:
    with running(files, str(files / "authority.pem")) as it:
        assert it.ask("laptop") == ["laptop", "https"]
        # The server's own certificate is of the same authority, and for no client.
        for name in ("", "stranger", "api"):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                it.ask(name)
        assert it.ask("laptop")


def test_one_silent_connection_stops_nobody(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READING", 8)
    with running(files) as it, it.plain(), it.plain("127.0.0.2"):
        start = time.monotonic()
        assert it.ask() and time.monotonic() - start < 4


def test_silent_connections_of_many_hold_no_thread(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READING", 8)
    with running(files, threads=4) as it, contextlib.ExitStack() as stack:
        for number in range(2, 12):
            for _ in range(2):
                stack.enter_context(it.plain(f"127.0.0.{number}"))
        start = time.monotonic()
        assert it.ask() and time.monotonic() - start < 3


def test_who_is_slow_gives_way_to_who_waits(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READING", 30)
    monkeypatch.setattr(server, "CROWDED", 0.3)
    with running(files, threads=4) as it, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(it.plain(f"127.0.0.{n}")) for n in (2, 2, 3, 3)]
        for one in slow:
            one.sendall(b"\x16")
        time.sleep(0.5)
        start = time.monotonic()
        assert it.ask() and time.monotonic() - start < 5


def test_who_is_slow_has_time_where_nobody_waits(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READING", 30)
    monkeypatch.setattr(server, "CROWDED", 0.1)
    with running(files, threads=4) as it:
        connection = it.client()
        connection.connect()
        for part in (b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"Connection: close\r\n\r\n"):
            time.sleep(0.3)
            connection.sock.sendall(part)
        assert connection.sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_who_sends_byte_by_byte_is_cut_off(files: Path) -> None:
    with running(files) as it:
        connection = it.client()
        connection.connect()
        start = time.monotonic()
        with pytest.raises(OSError):
            for letter in b"GET / HTTP/1.1\r\nX: " + b"a" * 1000:
                connection.sock.sendall(bytes([letter]))
                time.sleep(0.02)
        assert time.monotonic() - start < 2


def test_an_address_has_its_part_of_the_connections(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE", 0.4)
    with running(files, threads=4) as it, contextlib.ExitStack() as stack:
        held = [stack.enter_context(it.plain("127.0.0.2")) for _ in range(2)]
        more = stack.enter_context(it.plain("127.0.0.2"))
        more.settimeout(0.2)
        assert more.recv(1) == b""
        assert it.ask()
        for one in held:
            one.settimeout(5)
            assert one.recv(1) == b""
        again = stack.enter_context(it.plain("127.0.0.2"))
        again.settimeout(0.1)
        with pytest.raises(TimeoutError):
            again.recv(1)


def test_what_is_too_large_has_an_answer_in_json(files: Path) -> None:
    with running(files) as it:
        for path, body, expected in (("/" + "a" * 20000, b"", 414), ("/", b"a" * 200_000, 413)):
            connection = it.client()
            connection.request("POST", path, body)
            answer = connection.getresponse()
            assert (answer.status, json.load(answer)["status"]) == (expected, expected)


def test_salt_api_says_what_is_wrong_and_waits(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module as it is installed and loaded."""
    for path, text in door.files().items():
        target = tmp_path / path.removeprefix(f"{DOOR}/")
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        api = {
            "host": "127.0.0.1", "port": taken.getsockname()[1],
            "ssl_crt": str(files / "api.pem"), "ssl_key": str(files / "api.key"),
        }  # fmt: skip
        module = loaded(tmp_path, monkeypatch)
        monkeypatch.setattr(module.log, "error", lambda text, *words: said.append(text % words))
        monkeypatch.setattr(module.calling, "Salt", lambda *_: None)
        monkeypatch.setattr(module, "_PAUSE", 0)
        for wrong in ({}, {"ssl_key": "/nonexistent"}, {"prot": 1}):
            module.__opts__ = {"rocksalt_api": {**api, **wrong}, "cachedir": str(tmp_path)}
            module.start()
    assert module.__virtual__() == "rocksalt_api"
    assert len(said) == 3 and "No such file" in said[1] and "rocksalt_api:prot" in said[2]
    assert "in use" in said[0], said


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("salt.netapi", reason="the module calls Salt")
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = folder / "netapi" / "rocksalt_api.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        for name in [it for it in sys.modules if it.split(".")[0] == "rocksalt_door"]:
            del sys.modules[name]
    return module


def test_several_requests_share_a_connection_but_not_behind_a_body_nobody_read(
    files: Path,
) -> None:
    with running(files) as it:
        connection = it.client()
        for _ in range(3):
            connection.request("GET", "/")
            assert json.load(connection.getresponse()) == ["", "https"]
        connection.sock.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        got = b""
        with contextlib.suppress(OSError):
            while more := connection.sock.recv(10_000):
                got += more
        assert got.count(b"HTTP/1.1 ") == 1


def test_the_context_is_modern(files: Path) -> None:
    context = tls.context(str(files / "api.pem"), str(files / "api.key"))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    for option in ("NO_COMPRESSION", "NO_RENEGOTIATION", "CIPHER_SERVER_PREFERENCE"):
        assert context.options & getattr(ssl, f"OP_{option}")
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert len(names) > 4
    assert not [it for it in names if not it.startswith(("TLS_", "ECDHE-"))]
    assert not [it for it in names if not it.endswith(("GCM-SHA256", "GCM-SHA384", "POLY1305"))
                and not it.startswith("TLS_")]  # fmt: skip
    with_authority = tls.context(
        str(files / "api.pem"), str(files / "api.key"), str(files / "authority.pem")
    )
    assert with_authority.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "wrong", [("api", "laptop", ""), ("api", "api", "none"), ("no", "api", "")]
)
def test_a_wrong_file_is_an_error(files: Path, wrong: tuple[str, str, str]) -> None:
    certificate, key, authority = wrong
    with pytest.raises(OSError):
        tls.context(
            str(files / f"{certificate}.pem"), str(files / f"{key}.key"),
            str(files / f"{authority}.pem") if authority else "",
        )  # fmt: skip
