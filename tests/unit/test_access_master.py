"""rocksalt.access.versions, sources and knocking: releases, files, and what salt-api answers."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import socket
import ssl
import threading
from collections import UserList
from types import SimpleNamespace

import access_hosts
import pytest

from rocksalt.access import knocking, master, sources, versions
from rocksalt.access.door import tls as door_tls
from rocksalt.nrpe import tls
from rocksalt.pki import certificates

TODAY = dt.date(2026, 11, 23)


# Releases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("salt-master 3008.3 (Argon)", (3008, 3)),
        ("salt-master 3006.28", (3006, 28)),
        ("salt-master 3008.0rc1 (Argon)", (3008, 0)),
        ("salt-master 3008.3+12.gabcdef1 (Argon)", (3008, 3)),
        ("salt-master 3005 (Phosphorus)", (3005, 0)),
        ("salt-master", None),
    ],
)
def test_version_numbers(text, number):
    assert versions.number(text) == number


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ((3008, 3), ""),
        ((3008, 2), ""),
        ((3008, 1), "install 3008.2 or later: salt issue 69069"),
        ((3006, 28), ""),
        ((3006, 17), ""),
        ((3006, 16), "install 3006.17 or later: CVE-2025-62349"),
        ((3006, 5), "CVE-2024-22231"),
        ((3007, 15), "nobody closes holes of Salt 3007.15 since 2026-07-31; install 3008.2"),
        ((3005, 5), "of a line whose holes nobody closes; install 3008.2 or later"),
        ((2019, 2), "of a line whose holes nobody closes"),
    ],
)
def test_holes(version, words):
    found = versions.hole(version, TODAY)
    assert words in found
    assert bool(found) == bool(words)


def test_a_line_of_its_last_day():
    assert versions.hole((3006, 28), dt.date(2027, 7, 31)) == ""
    assert "since 2027-07-31" in versions.hole((3006, 28), dt.date(2027, 8, 1))
    assert "3007.9 or later: CVE-2025-62349" in versions.hole((3007, 8), dt.date(2026, 7, 31))


def test_a_line_to_come_is_not_judged():
    with pytest.raises(LookupError, match=r"Salt 3009\.1 is of a line that this baseline does not"):
        versions.hole((3009, 1), TODAY)


# Files of the configuration -----------------------------------------------------------------------


def test_the_order_of_files(host):
    main = "/etc/salt/master"
    host.put(main, "include: [more/*.conf, /opt/x.conf]\nuser: salt\n")
    host.put("/etc/salt/master.d/b.conf", "a: {b: 1}\n")
    host.put("/etc/salt/master.d/a.conf", "include: inner/y.conf\n")
    host.put("/etc/salt/master.d/inner/y.conf", "")
    host.put("/etc/salt/master.d/not.yaml", "a: 1\n")
    host.put("/etc/salt/more/z.conf", "- a list\n")
    host.put("/opt/x.conf", "a: {c: 1}\n")
    found = sources.read(host, main)
    assert [source.path for source in found] == [
        main,
        "/etc/salt/master.d/a.conf",
        "/etc/salt/master.d/inner/y.conf",
        "/etc/salt/master.d/b.conf",
        "/etc/salt/more/z.conf",
        "/opt/x.conf",
    ]
    assert [source.problem for source in found if source.problem] == [
        "/etc/salt/more/z.conf is no mapping of options, so that Salt takes nothing of it"
    ]
    assert sources.naming(found, "a") == ["/etc/salt/master.d/b.conf", "/opt/x.conf"]
    assert sources.naming(found, "a", "b") == ["/etc/salt/master.d/b.conf"]


def test_another_folder_by_default(host):
    host.put("/etc/salt/master", "default_include: conf/*\n")
    host.put("/etc/salt/conf/one", "a: 1\n")
    host.put("/etc/salt/master.d/a.conf", "a: 1\n")
    found = [source.path for source in sources.read(host, "/etc/salt/master")]
    assert found == ["/etc/salt/master", "/etc/salt/conf/one"]


def test_files_that_include_each_other_end(host):
    host.put("/etc/salt/master.d/a.conf", "include: a.conf\n")
    assert len(sources.read(host, "/etc/salt/master")) < 20


def test_what_is_no_yaml(host):
    found = sources.parse("/x", "a: 1\nb: [c\n")
    assert found.problem.startswith("/x is no YAML (line 3")
    assert found.data == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "has the key a twice (line 3)"),
        ("peer: {x: [a], y: [b],\n x: [c]}\n", "has the key x twice (line 2)"),
        ("- {a: 1, a: 2}\n", "has the key a twice (line 1)"),
        ("1: a\n0x1: b\n", "has the key 1 twice (line 2)"),
    ],
)
def test_a_key_that_is_there_twice(text, words):
    found = sources.parse("/x", text)
    assert (found.problem, found.data) == (f"/x {words}, so that Salt takes nothing of it", {})


def test_a_key_that_overrules_a_merged_one():
    found = sources.parse("/x", "a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}\n")
    assert (found.problem, found.data["b"]) == ("", {"x": 2, "y": 1})


def test_the_folders_of_what_is_included(host):
    main = "/etc/salt/master"
    host.put(main, "include: [more/*/x.conf, gone/*.conf, /opt/x.conf, /opt/gone.conf]\n")
    host.put("/etc/salt/master.d/a.conf", "include: inner/*\n")
    host.put("/etc/salt/master.d/inner/b.conf", "a: 1\n")
    host.put("/etc/salt/more/one/x.conf", "a: 1\n")
    host.put("/opt/x.conf", "a: 1\n")
    assert {*sources.folders(host, main, sources.read(host, main))} == {
        "/etc/salt/master.d", "/etc/salt/more/one", "/etc/salt/more", "/etc/salt", "/opt",
        "/etc/salt/master.d/inner",
    }  # fmt: skip
    host.path(main).write_text("include: /opt/x.conf\n")
    host.path("/etc/salt/master.d/a.conf").unlink()
    assert sources.folders(host, main, sources.read(host, main)) == ["/etc/salt/master.d"]


def test_plain_types():
    class Mine(dict):
        pass

    assert sources.plain(Mine(a=(Mine(b=1),))) == {"a": [{"b": 1}]}
    assert sources.plain(UserList(["a", b"b"])) == ["a", b"b"]
    assert type(sources.plain(Mine(a=1))) is dict


# Knocking -----------------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path):
    """A server with an own context for TLS, or none; it gives its port."""
    with contextlib.ExitStack() as stack:

        def start(context, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def handle():
                with contextlib.suppress(OSError):
                    while True:
                        raw, _ = listener.accept()
                        raw.settimeout(2)
                        with contextlib.suppress(OSError), raw:
                            made = context.wrap_socket(raw, server_side=True) if context else raw
                            with made:
                                if made.recv(4096):
                                    made.sendall(answer)

            threading.Thread(target=handle, daemon=True).start()
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return listener.getsockname()[1]

        yield start


@pytest.fixture
def files(tmp_path):
    """The files of a certificate and of its key."""
    certificate, key = access_hosts.server()
    paths = str(tmp_path / "api.pem"), str(tmp_path / "api.key")
    for path, text in zip(paths, (certificate, key), strict=True):
        with open(path, "w") as file:
            file.write(text)
    return paths


def test_the_door_is_modern(serve, files):
    found = knocking.knock("127.0.0.1", serve(door_tls.context(*files)))
    shown = certificates.fingerprint(certificates.load(access_hosts.server()[0], "it")[0])
    assert found == knocking.Answers(
        tls.SERVED, tls.REFUSED, tls.REFUSED, tls.REFUSED, shown, "200"
    )


def test_the_door_asks_for_a_certificate(serve, files):
    found = knocking.knock("127.0.0.1", serve(door_tls.context(*files, client_ca=files[0])))
    assert (found.modern, found.status) == (knocking.NEED_CERTIFICATE, "")
    assert found.old_tls == found.unsafe_ciphers == found.plain == tls.REFUSED


def test_old_and_unsafe(serve, files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:eNULL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.load_cert_chain(*files)
    found = knocking.knock("127.0.0.1", serve(context))
    assert found.modern == tls.SERVED
    assert found.old_tls.startswith(f"{tls.SERVED} with TLSv1.1 ")
    assert found.unsafe_ciphers.startswith(f"{tls.SERVED} with TLSv1.2 ")


def test_plain_http(serve):
    found = knocking.knock("127.0.0.1", serve(None))
    assert found.plain == f"{tls.SERVED} (200)"
    assert found.modern.startswith(tls.UNTOLD)


def test_a_server_of_https_that_says_so_without_tls(serve):
    said = b"HTTP/1.1 400 Bad Request\r\n\r\nThis is a server of HTTPS.\n"
    assert knocking.knock("127.0.0.1", serve(None, said)).plain == tls.REFUSED


def test_what_is_no_http(serve, files):
    found = knocking.knock("127.0.0.1", serve(door_tls.context(*files), b"220 mail\r\n"))
    assert found.modern == f"{tls.UNTOLD}: no answer of HTTP"


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert knocking.knock("127.0.0.1", port) == knocking.Answers()
    alive = iter([True, True, False]).__next__
    waited: list[float] = []
    assert not knocking.answers_in(60, "127.0.0.1", port, alive, waited.append)
    assert len(waited) == 2


def test_it_answers_in_time(serve):
    assert knocking.answers_in(1, "127.0.0.1", serve(None), lambda: True)


def test_where_nobody_can_listen():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert knocking.bound("127.0.0.1", port) == errno.EADDRINUSE
    assert knocking.bound("127.0.0.1", port) == 0
    assert knocking.bound("192.0.2.1", port) == errno.EADDRNOTAVAIL
    assert knocking.bound("2001:db8::1", port) in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


# When it started ----------------------------------------------------------------------------------

STARTED = "Mon 2026-11-23 08:00:00.250000 UTC"
AT = dt.datetime(2026, 11, 23, 8, 0, 0, 250000, dt.timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("wall", "monotonic", "text", "expected"),
    [
        (120, 1120, STARTED, AT),
        # The host stood still for an hour, or its clock was set forward.
        (3720, 1120, STARTED, AT),
        # The clock was ahead at the start, and was set back by an hour.
        (120 - 3600, 1120, STARTED, AT - 3600),
        (120, 1120, "", AT),
        (120, 1120, "n/a", AT),
    ],
)
def test_a_service_started_at_the_earlier_time_of_both_clocks(
    host, monkeypatch, wall, monotonic, text, expected
):
    clock = SimpleNamespace(time=lambda: AT + wall, monotonic=lambda: monotonic)
    monkeypatch.setattr(master, "time", clock)
    shown = {
        "ActiveState": "active", "ExecMainStartTimestamp": text,
        "ExecMainStartTimestampMonotonic": "1000000000", "ActiveEnterTimestamp": "",
        "ActiveEnterTimestampMonotonic": "1001000000",
    }  # fmt: skip
    lines = "".join(f"{key}={value}\n" for key, value in shown.items())
    host.answer("systemctl show salt-master.service", lines)
    assert master.started(host, "salt-master.service") == pytest.approx(expected, abs=0.001)
