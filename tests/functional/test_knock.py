"""The way of a firewall change through a real master: event, reactor, runner, new connection."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from conftest import ENVIRONMENT, REPOSITORY, program

TAG = "rocksalt/firewall/armed"


class Sshd:
    """Something on loopback that greets as sshd does, and notes who came."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.came: list[float] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            self.came.append(time.time())
            with client:
                client.sendall(b"SSH-2.0-test\r\n")
                client.recv(1)

    def visits(self, wait: float) -> int:
        """How many came, after at most that many seconds in which nobody did."""
        deadline = time.monotonic() + wait
        while not self.came and time.monotonic() < deadline:
            time.sleep(0.05)
        return len(self.came)


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    it = Sshd()
    yield it
    it.socket.close()


@pytest.fixture(scope="module")
def reactor() -> list[dict[str, Any]]:
    """What docs/install.md tells a master."""
    blocks = (REPOSITORY / "docs" / "install.md").read_text().split("```yaml\n")[1:]
    [found] = [text.split("```")[0] for text in blocks if TAG in text]
    configured: list[dict[str, Any]] = yaml.safe_load(found)["reactor"]
    return configured


@pytest.fixture(scope="module")
def cluster(
    salt_factories: FactoriesManager, reactor: list[dict[str, Any]]
) -> Iterator[tuple[Any, Any]]:
    """A master and the minion web1; the runner comes by sync, while the master runs."""
    master = salt_factories.salt_master_daemon(
        random_string("knock-"),
        overrides={
            "file_roots": {"base": [str(REPOSITORY / "salt")]},
            "reactor": reactor,
            "pytest-master": {"log": {"level": "warning"}},
        },
    )
    minion = master.salt_minion_daemon(
        "web1", overrides={"pytest-minion": {"log": {"level": "warning"}}}
    )
    with master.started(), minion.started():
        synced = run(master, "salt-run", "saltutil.sync_all")
        assert "runners.firewall" in synced["runners"]
        yield master, minion


def run(owner: Any, name: str, *words: str) -> Any:
    """A program as a person runs it, and the JSON that it prints."""
    command = [program(name), "-c", str(owner.config_dir), "--out=json", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT
    )
    assert done.stdout, done
    return json.loads(done.stdout)


def armed(minion: Any, **claim: Any) -> None:
    """The event of a minion that waits for a new connection."""
    run(minion, "salt-call", "event.send", TAG, json.dumps(claim))


LIES = {
    "nobody is connected from there, though it answers": {"addresses": ["127.0.0.2"]},
    "more than data": {"addresses": ['"]\n  runner.saltutil.sync_all: []\n{{ 1 // 0 }}']},
    "not what was agreed": {"ports": {"22": "22"}},
}


def test_the_event_of_a_minion_makes_the_master_knock_there_alone(
    cluster: tuple[Any, Any], sshd: Sshd
) -> None:
    for lie in LIES.values():
        armed(cluster[1], **{"addresses": ["127.0.0.1"], "ports": [sshd.port], **lie})
    assert sshd.visits(0) == 0

    armed(cluster[1], addresses=["192.0.2.1", "127.0.0.1"], ports=[sshd.port])
    assert sshd.visits(10) == 1


def test_by_hand(cluster: tuple[Any, Any], sshd: Sshd) -> None:
    master, _ = cluster
    words = ("salt-run", "firewall.knock", "web1", "[127.0.0.1]")
    found = run(master, *words, f"[{sshd.port}]")
    assert (found["knocked"], found["port"], sshd.visits(0)) == (True, sshd.port, 1)
