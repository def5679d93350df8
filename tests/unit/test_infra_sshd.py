"""tests/infra: sshd, by what ss, systemctl and the server itself say."""

from __future__ import annotations

from typing import Any

import pytest
from infra import test_sshd as sshd
from infra.asking import Answer

BOTH = {"SSHD-160", "SSHD-161"}
SERVICE = "Id=ssh.service\nActiveState={}\nMainPID=700\nStateChangeTimestamp={}\n"
SOCKET = "Id=ssh.socket\nActiveState={}\nUnitFileState={}\n"
FORWARDED = ("127.0.0.1:6010", "[::1]:6010")


def host(*ends: str, forwarded: tuple[str, ...] = (), socket: str = "") -> dict[str, Answer]:
    said = "".join(f'LISTEN 0 128 {it} *:* users:(("sshd",pid=700,fd=3))\n' for it in ends)
    said += "".join(f'LISTEN 0 128 {it} *:* users:(("sshd",pid=9,fd=3))\n' for it in forwarded)
    service = SERVICE.format("inactive" if socket else "active", "")
    states = ("active", "enabled") if socket else ("inactive", "disabled")
    title = "" if socket else "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\n"
    return {
        "listening": Answer(said, 0),
        "units": Answer(f"{service}\n{SOCKET.format(*states)}", 0),
        "socket": Answer(socket, 0),
        "commands": Answer(f"{title}sshd: ann [priv]\n", 0),
        "stat": Answer("", 0),
    }


def settings(*addresses: str) -> dict[str, Any]:
    return {"ports": [22], "listen_addresses": [*addresses]}


@pytest.mark.parametrize(
    ("seen", "own"),
    [
        (host("0.0.0.0:22", "[::]:22"), settings()),
        (host("0.0.0.0:22"), settings()),
        (host("0.0.0.0:22", "[::]:22", forwarded=FORWARDED), settings()),
        (host("10.0.0.1:22", "[2001:db8::1]:22"), settings("10.0.0.1", "2001:DB8:0::1")),
        (host(socket="[::]:22 (Stream)\n"), settings()),
    ],
)
def test_it_listens_as_declared(seen: Any, own: dict[str, Any]) -> None:
    sshd.test_it_listens_where_it_should(seen, own, BOTH)
    sshd.test_sshd_has_no_options_and_no_double(seen)


@pytest.mark.parametrize(
    ("seen", "own"),
    [
        (host("10.0.0.1:22"), settings("10.0.0.1", "10.9.0.1")),
        (host("0.0.0.0:22"), settings("10.0.0.1")),
        (host("0.0.0.0:2222"), settings()),
        (host("0.0.0.0:22", forwarded=("0.0.0.0:23",)), settings()),
        (host(socket="0.0.0.0:2222 (Stream)\n"), settings()),
        (host(), settings()),
    ],
)
def test_it_listens_otherwise(seen: Any, own: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        sshd.test_it_listens_where_it_should(seen, own, BOTH)


def test_a_second_sshd_is_seen() -> None:
    with pytest.raises(AssertionError):
        sshd.test_sshd_has_no_options_and_no_double(host("0.0.0.0:22", forwarded=("10.0.0.1:23",)))
    titles = f"{host()['commands'].text}sshd: /usr/sbin/sshd -p 23 [listener] 0 of 10-100 startups"
    with pytest.raises(AssertionError):
        sshd.test_sshd_has_no_options_and_no_double(
            {**host("0.0.0.0:22"), "commands": Answer(titles, 0)}
        )


def test_sshd_of_a_socket_reads_its_files_for_each_connection() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"ssh\.socket"):
        sshd.test_the_daemon_has_read_its_files(host(socket="[::]:22 (Stream)\n"))


def test_a_command_with_arguments() -> None:
    own = {"authorized_keys_command": "/usr/bin/keys --user %u"}
    row = ("authorizedkeyscommand", "{authorized_keys_command}")
    sshd.test_directive(offered("authorizedkeyscommand /usr/bin/keys --user %u"), own, *row)
    with pytest.raises(AssertionError):
        sshd.test_directive(offered("authorizedkeyscommand /usr/bin/keys"), own, *row)


def offered(effective: str, said: str = "") -> dict[str, Answer]:
    return {"effective": Answer(f"{effective}\n", 0), "offered": Answer(said, 255)}


def test_what_is_offered_is_seen_or_said_to_be_unseen() -> None:
    row = ({"ciphers": ["a", "b"]}, "ciphers", "ciphers", "ciphers stoc")
    offer = "debug2: peer server KEXINIT proposal\ndebug2: ciphers stoc: {}\n"
    sshd.test_algorithms(offered("ciphers a,b", offer.format("a,b")), *row)
    for said in (offer.format("a,c"), "debug2: peer server KEXINIT proposal\n"):
        with pytest.raises(AssertionError):
            sshd.test_algorithms(offered("ciphers a,b", said), *row)
    with pytest.raises(pytest.skip.Exception, match="Connection refused"):
        sshd.test_algorithms(offered("ciphers a,b", "ssh: connect: Connection refused"), *row)
