"""rocksalt.logstash.knocking: what strangers get at a port, from servers that answer for real."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import logstash_servers as servers
import pytest

from rocksalt.logstash import knocking

WELCOME = b"1 rsp 42 200 OK\nrelp_version=0\ncommands=syslog\n"


@pytest.fixture
def files(tmp_path):
    """The certificate and key of a log server, and of web1 and web2, which ship."""
    pairs = {"logs1": servers.signed("logs1", "10.79.0.9"), "ca": (servers.ca().text, "")}
    pairs |= {name: servers.signed(name) for name in ("web1", "web2")}
    for name, (certificate, key) in pairs.items():
        (tmp_path / f"{name}.pem").write_text(certificate)
        (tmp_path / f"{name}.key").write_text(key)
    return lambda name: (str(tmp_path / f"{name}.pem"), str(tmp_path / f"{name}.key"))


@pytest.fixture
def serve(files):
    """Starts a server of RELP; ``take`` says of a certificate whether it is welcome."""
    waiting: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(verify=ssl.CERT_REQUIRED, take=lambda name: name == "web1", newest=None, tls=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files("logs1"))
        context.load_verify_locations(files("ca")[0])
        context.verify_mode = verify
        if newest:
            context.maximum_version = newest
        listener = socket.create_server(("127.0.0.1", 0))
        waiting.append(listener)

        def one(raw):
            raw.settimeout(5)
            with contextlib.suppress(OSError), raw:
                if not tls:
                    raw.recv(100)
                    raw.sendall(WELCOME)
                    return
                with context.wrap_socket(raw, server_side=True) as secured:
                    shown = secured.getpeercert() or {}
                    name = dict(shown.get("subjectAltName", ())).get("DNS", "")
                    if take(name):
                        secured.recv(100)
                        secured.sendall(WELCOME)

        def run():
            with contextlib.suppress(OSError):
                while True:
                    one(listener.accept()[0])

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return listener.getsockname()[1]

    yield start
    for listener in waiting:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize("newest", [None, ssl.TLSVersion.TLSv1_2])
def test_a_good_server(serve, files, newest):
    port = serve(newest=newest)
    found = knocking.knock("127.0.0.1", port, "web1", files("web2"))
    assert found == knocking.Answers(*["refused"] * 4)
    own = knocking.knock("127.0.0.1", port, "web1", files("web1"))
    assert own.other_host == "served", "it takes who it should"
    assert knocking.knock("127.0.0.1", port, "web1").other_host == ""


def test_one_that_takes_everybody(serve, files):
    found = knocking.knock(
        "127.0.0.1", serve(ssl.CERT_NONE, lambda name: True), "web1", files("web2")
    )
    assert (found.without_certificate, found.foreign_certificate, found.other_host) == (
        *("served", "served", "served"),
    )
    assert found.plain == "refused"


def test_one_that_does_not_look_at_names(serve, files):
    port = serve(take=lambda name: True)
    found = knocking.knock("127.0.0.1", port, "web1", files("web2"))
    assert (found.without_certificate, found.foreign_certificate) == ("refused", "refused")
    assert found.other_host == "served"


def test_one_without_tls(serve):
    found = knocking.knock("127.0.0.1", serve(tls=False), "web1")
    assert found.plain == "served"
    assert found.without_certificate.startswith("cannot be tried: ")


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert knocking.knock("127.0.0.1", port, "web1") == knocking.Answers()
