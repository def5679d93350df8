"""The runner ``firewall``: what it believes of a minion's event, and what it takes for a way in."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

RUNNER = Path(__file__).resolve().parents[2] / "_runners" / "firewall.py"
PUBLISH = 4505
# 127.0.0.1:4505 <- 10.79.0.11, 10.79.0.12 (closing), and 10.79.0.13 at another port.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1199 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0100007F:1199 0B004F0A:8A3C 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0100007F:1199 0C004F0A:8A3D 06 00000000:00000000 00:00000000 00000000     0        0 3 1 0
   3: 0100007F:119A 0D004F0A:8A3E 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0
"""
# ::1:4505 <- 2001:db8::5, and an IPv4 peer of a socket that serves both.
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:1199 B80D0120000000000000000005000000:C350 01 0 0
   1: 0000000000000000FFFF00000100007F:1199 0000000000000000FFFF00000E004F0A:C351 01 0 0
"""


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner as the master's loader makes it, with a peer at 127.0.0.1 and less patience."""
    spec = importlib.util.spec_from_file_location("runner_firewall", RUNNER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"publish_port": PUBLISH}
    module.log.disabled = True
    loopback = {ipaddress.ip_address("127.0.0.1")}
    monkeypatch.setattr(module, "_peers", lambda port: loopback if port == PUBLISH else set())
    for name, seconds in (("PATIENCE", 1), ("ANSWER", 0.5), ("PAUSE", 0.05), ("HOLD", 0.2)):
        monkeypatch.setattr(module, name, seconds)
    return module


@pytest.fixture
def server() -> Iterator[Callable[..., int]]:
    """Listens on loopback, sends each client some bytes and counts the seconds that it stays."""
    sockets = []

    def serve(*chunks: bytes, stays: list[float] | None = None, after: float = 0) -> int:
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        sockets.append(bound)

        def accept() -> None:
            time.sleep(after)
            with contextlib.suppress(OSError):
                bound.listen()
                while True:
                    with bound.accept()[0] as client:
                        answer(client)

        def answer(client: socket.socket) -> None:
            for chunk in chunks:
                client.sendall(chunk)
            started = time.monotonic()
            client.settimeout(5)
            with contextlib.suppress(ConnectionError):
                client.recv(1)
            if stays is not None:
                stays.append(time.monotonic() - started)

        threading.Thread(target=accept, daemon=True).start()
        return int(bound.getsockname()[1])

    yield serve
    for each in sockets:
        each.close()


def addresses(*texts: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    return {ipaddress.ip_address(text) for text in texts}


def test_the_far_ends_of_established_connections_to_one_port(runner: ModuleType) -> None:
    assert runner._remotes(TCP, PUBLISH) == addresses("10.79.0.11")
    assert runner._remotes(TCP, 4506) == addresses("10.79.0.13")
    assert runner._remotes(TCP6, PUBLISH) == addresses("2001:db8::5", "10.79.0.14")
    assert runner._remotes(TCP.splitlines()[0], PUBLISH) == set()


@pytest.mark.parametrize(
    ("claim", "tried"),
    [
        (["10.0.0.1", "10.0.0.9", "2001:db8::1"], ["10.0.0.1", "2001:db8::1"]),
        (["2001:DB8:0::1"], ["2001:db8::1"]),
        (["10.0.0.1"] * 9, ["10.0.0.1"]),
        ([f"10.0.0.{last}" for last in range(1, 9)], [f"10.0.0.{last}" for last in range(1, 5)]),
        (["example.org", "10.0.0.1/32", "", None, 167772161, ["10.0.0.1"], {}], []),
        ("10.0.0.1", []),
        ({"10.0.0.1": 1}, []),
        (None, []),
    ],
)
def test_only_connected_addresses_are_tried(
    runner: ModuleType, claim: object, tried: list[str]
) -> None:
    peers = addresses(*(f"10.0.0.{last}" for last in range(1, 9)), "2001:db8::1")
    assert runner._connected(claim, peers) == tried


@pytest.mark.parametrize(
    ("claim", "tried"),
    [
        ([22, 2222], [22, 2222]),
        ([0, 1, 65535, 65536, -22], [1, 65535]),
        (["22", 22.0, True, None, [22]], []),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4]),
        (22, []),
        (None, []),
    ],
)
def test_only_ports_are_tried(runner: ModuleType, claim: object, tried: list[int]) -> None:
    assert runner._ports(claim) == tried


def test_a_banner_is_a_way_in_and_the_connection_is_held(
    runner: ModuleType, server: Callable[..., int]
) -> None:
    stays: list[float] = []
    port = server(b"Welcome,\r\n", b"SSH-2", b".0-test\r\n", stays=stays)

    assert runner.knock("web1", ["127.0.0.1"], [port]) == {
        "knocked": True, "address": "127.0.0.1", "port": port,
        "reason": f"'web1' answers new connections at 127.0.0.1 port {port}",
    }  # fmt: skip
    time.sleep(0.1)
    [stayed] = stays
    assert stayed >= 0.15


def test_it_tries_again_until_somebody_listens(
    runner: ModuleType, server: Callable[..., int]
) -> None:
    port = server(b"SSH-2.0-test\r\n", after=0.4)
    assert runner.knock("web1", ["127.0.0.1"], [port])["knocked"]


def test_each_port_is_tried(runner: ModuleType, server: Callable[..., int]) -> None:
    silent, port = server(), server(b"SSH-2.0-test\r\n")
    answer = runner.knock("web1", ["127.0.0.1"], [silent, port])
    assert (answer["knocked"], answer["port"]) == (True, port)


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n", b"x" * 9000], "what answers is no ssh server"),
        ([b"220 ESMTP SSH-2.0-\r\n"], "timed out"),
        ([], "timed out"),
    ],
)
def test_anything_but_a_banner_is_no_way_in(
    runner: ModuleType, server: Callable[..., int], chunks: list[bytes], said: str
) -> None:
    runner.PATIENCE = 0.4
    port = server(*chunks)
    answer = runner.knock("web1", ["127.0.0.1"], [port])
    assert (answer["knocked"], answer["retcode"], answer["port"]) == (False, 1, None)
    assert f"127.0.0.1 port {port}: " in answer["reason"] and said in answer["reason"]


@pytest.mark.parametrize(
    ("claimed", "ports", "said"),
    [
        (["127.0.0.2"], [22], "no address connected to this master's port 4505 in ['127.0.0.2']"),
        (["127.0.0.1"], ["22"], "'web1' named no port between 1 and 65535: ['22']"),
        (None, [22], "no address connected to this master's port 4505 in None"),
        (["x" * 9999], [22], "x..."),
    ],
)
def test_what_cannot_be_tried_is_told(
    runner: ModuleType, claimed: object, ports: object, said: str
) -> None:
    runner.PATIENCE = 0.1
    answer = runner.knock("web1", claimed, ports)
    assert (answer["knocked"], answer["retcode"]) == (False, 1)
    assert said in answer["reason"] and len(answer["reason"]) < 250


def test_a_mistake_of_its_own_is_an_answer_too(runner: ModuleType) -> None:
    def broken(port: int) -> None:
        raise TypeError("missing 1 required positional argument")

    runner._peers = broken
    answer = runner.knock("web1", ["127.0.0.1"], [22])
    assert answer["retcode"] == 1 and "TypeError: missing 1 required" in answer["reason"]
