"""rocksalt.logstash.shipping.link and naming: a name whose addresses nobody tells."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from rocksalt.logstash.shipping import link, naming
from rocksalt.logstash.shipping.config import Config, Server

SERVER = Server("logs1.example", 2601, "logs1")
ADDRESS = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))


@pytest.fixture
def resolver(monkeypatch):
    """A resolver that hangs until it is ``answered``; ``asked`` are the names."""

    class Resolver:
        def __init__(self):
            self.answered, self.asked = threading.Event(), []

        def ask(self, host, port, type, flags=0):
            if flags:
                raise socket.gaierror("no number")
            self.asked.append(host)
            self.answered.wait(10)
            return [ADDRESS]

    made = Resolver()
    monkeypatch.setattr(naming.socket, "getaddrinfo", made.ask)
    monkeypatch.setattr(naming, "_asked", {})
    monkeypatch.setattr(link, "context", lambda config: None)
    yield made
    made.answered.set()


def attempt():
    return link.Link(SERVER, Config("web1", (SERVER,), "", "", ""), 0.0)


def test_a_name_is_asked_for_once_while_nobody_answers(resolver):
    links = [attempt() for _ in range(50)]
    for it in links:
        with pytest.raises(link.Broken, match="does not answer within 5 seconds"):
            it.step(6.0)
    assert resolver.asked == ["logs1.example"]
    resolver.answered.set()
    end = time.monotonic() + 10
    while not links[0]._naming.done and time.monotonic() < end:
        time.sleep(0.01)
    assert links[0]._naming.found == [ADDRESS]
    assert attempt()._naming is not links[0]._naming
    assert len(resolver.asked) == 2


def test_no_room_for_a_thread_is_told(resolver, monkeypatch):
    def full(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    it = attempt()
    with pytest.raises(link.Broken, match=r"logs1 .* has no address: can't start new thread"):
        it.step(0.0)
