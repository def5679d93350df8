"""rocksalt.nrpe.tls: what a server that listens here answers to strangers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
import zlib

import nrpe_hosts
import pytest

from rocksalt.nrpe import tls
from rocksalt.nrpe.tls import Answers

HERE = "127.0.0.1"


class Server:
    """In place of NRPE: one connection after the other. ``allowed`` are those that it hears."""

    def __init__(self, context: ssl.SSLContext | None, allowed=(HERE,), answer=2):
        self.context, self.allowed, self.answer = context, allowed, answer
        self.asked: list[bytes] = []
        self.socket = socket.create_server((HERE, 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (address, _) = self.socket.accept()
                with contextlib.suppress(OSError), connection:
                    if address in self.allowed:
                        self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(2)
        if self.context:
            with self.context.wrap_socket(connection, server_side=True) as secured:
                self._reply(secured)
        else:
            self._reply(connection)

    def _reply(self, connection: socket.socket) -> None:
        question = connection.recv(2048)
        self.asked.append(question)
        if question.startswith(b"\x00\x02\x00\x01"):
            packet = struct.pack("!hhIh1024s2x", 2, self.answer, 0, 0, b"NRPE v4.1.0")
            connection.sendall(packet)


def context(folder, mode=ssl.CERT_REQUIRED, oldest=ssl.TLSVersion.TLSv1_2, newest=None):
    certificate, key = nrpe_hosts.server()
    (folder / "it.pem").write_text(certificate + key)
    (folder / "ca.pem").write_text(nrpe_hosts.ca().text)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(folder / "it.pem")
    found.load_verify_locations(folder / "ca.pem")
    found.verify_mode = mode
    if oldest < ssl.TLSVersion.TLSv1_2:
        found.set_ciphers("ALL:ADH:@SECLEVEL=0")
    found.minimum_version = oldest
    if newest:
        found.maximum_version = newest
    return found


@pytest.fixture
def knock():
    servers = []

    def call(*server, stranger="127.0.0.5", **other) -> Answers:
        servers.append(Server(*server, **other))
        return tls.knock(HERE, servers[-1].port, stranger)

    yield call
    for server in servers:
        server.socket.close()


SHOWN = nrpe_hosts.shown(nrpe_hosts.server()[0])


def test_as_it_should_be(knock, tmp_path):
    refused = Answers("refused", "refused", "refused", "refused", "not heard", SHOWN)
    assert knock(context(tmp_path)) == refused
    assert knock(context(tmp_path, oldest=ssl.TLSVersion.TLSv1_3)) == refused


def test_no_certificate_needed(knock, tmp_path):
    found = knock(context(tmp_path, ssl.CERT_OPTIONAL))
    assert (found.without_certificate, found.certificate) == ("served", SHOWN)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", [ssl.CERT_NONE, ssl.CERT_REQUIRED])
def test_old_and_anonymous_tls(knock, tmp_path, mode):
    """A server that wants a certificate refuses at the end, and takes the old version before."""
    found = knock(context(tmp_path, mode, ssl.TLSVersion.TLSv1))
    assert found.old_tls == "served with TLSv1.1"
    assert found.anonymous == "served with TLSv1.2"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_that_asks_for_a_certificate(knock, tmp_path):
    """Without a certificate nobody gets in with it, and yet it is spoken."""
    found = knock(context(tmp_path, oldest=ssl.TLSVersion.TLSv1))
    assert (found.without_certificate, found.old_tls) == ("refused", "served with TLSv1.1")


class Odd(Server):
    """One that does something else than NRPE: ``says`` it and ends, or says nothing at all."""

    def __init__(self, says: bytes | None):
        self.says = says
        super().__init__(None)

    def _answer(self, connection: socket.socket) -> None:
        connection.recv(4096)
        if self.says is None:
            time.sleep(0.5)
        else:
            connection.sendall(self.says)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (None, "cannot be tried: no answer in 0.1 seconds"),
        (b"", "cannot be tried: it ends the connection without a word"),
        (b"\x15\3\3\0\2\2\x50", "cannot be tried: it says 15 03 03 00 02 02 50"),
        (b"220 mail ESMTP\r\n", "cannot be tried: it says 32 32 30 20 6d 61 69"),
        (b"\x15\3\1\0\2\2\x46", "refused"),
    ],
)
def test_what_is_no_refusal(monkeypatch, says, words):
    monkeypatch.setattr(tls, "TIMEOUT", 0.1)
    odd = Odd(says)
    with odd.socket:
        version = ssl.TLSVersion.TLSv1_2
        assert tls._with((HERE, odd.port), version, version, "DEFAULT") == words
        outcome = tls._modern((HERE, odd.port))[0]
        assert outcome == tls.CLOSED if says == b"" else outcome.startswith("cannot be tried")


def test_no_cipher_in_common_is_no_refusal(knock, tmp_path):
    """Whoever has one may get in without a certificate."""
    server = context(tmp_path, ssl.CERT_NONE, newest=ssl.TLSVersion.TLSv1_2)
    server.set_ciphers("ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")
    found = knock(server)
    assert found.without_certificate.startswith("cannot be tried")


def test_nobody_listens_any_more():
    where = (HERE, tls.free_port(HERE))
    for outcome in (tls._plain(where), tls._stranger(where, HERE)):
        assert outcome == "cannot be tried: Connection refused"


def test_ciphers_that_this_host_does_not_have():
    version = ssl.TLSVersion.TLSv1_2
    assert tls._with((HERE, 1), version, version, "NONE-SUCH").startswith("cannot be tried: ")


def test_tls_1_2_shows_the_refusal_and_no_certificate(knock, tmp_path):
    found = knock(context(tmp_path, newest=ssl.TLSVersion.TLSv1_2))
    assert (found.without_certificate, found.certificate) == ("refused", "")


def test_without_tls(knock):
    found = knock(None)
    assert (found.without_certificate, found.plain) == (tls.CLOSED, "served")


def test_an_answer_that_is_none(knock):
    assert knock(None, answer=1).plain == "refused"


def test_everybody_is_heard(knock, tmp_path):
    assert knock(context(tmp_path), allowed=(HERE, "127.0.0.5")).stranger == "heard"
    assert knock(context(tmp_path), stranger="").stranger is None


def test_this_host_is_not_heard(knock, tmp_path):
    found = knock(context(tmp_path), allowed=("127.0.0.9",))
    assert (found.without_certificate, found.plain, found.certificate) == (
        tls.CLOSED,
        "refused",
        "",
    )


def test_nobody_listens():
    port = tls.free_port(HERE)
    assert tls.knock(HERE, port, "127.0.0.5") == Answers()
    assert not tls.answers_in(0, HERE, port)
    assert not tls.answers_in(9, HERE, port, lambda: False)


def test_somebody_listens():
    with socket.create_server((HERE, 0)) as server:
        assert tls.answers_in(1, HERE, server.getsockname()[1])


def test_the_question():
    question = tls.query()
    version, kind, checksum, result = struct.unpack("!hhIh", question[:10])
    assert (len(question), version, kind, result) == (1036, 2, 1, 0)
    assert checksum == zlib.crc32(question[:4] + bytes(4) + question[8:])
    assert question[10:].rstrip(b"\0") == b"_NRPE_CHECK"


def test_own_addresses():
    assert tls.source("127.0.0.3") == HERE
    assert tls.is_own("127.0.0.3")
    assert not tls.is_own("192.0.2.1")


@pytest.mark.parametrize(
    ("address", "allowed", "stranger"),
    [
        ("10.0.0.7", ["10.0.0.1", "10.0.0.7"], "127.0.0.1"),
        ("10.0.0.7", ["127.0.0.0/8", "10.0.0.7"], ""),
        ("2001:db8::7", ["10.0.0.0/8", "2001:db8::7"], "::1"),
        ("2001:db8::7", ["::/16", "2001:db8::7"], ""),
    ],
)
def test_who_is_a_stranger(address, allowed, stranger):
    assert tls.unheard(address, allowed) == stranger
