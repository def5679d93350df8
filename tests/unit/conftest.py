"""A small catalogue, the shipped one, and a host that is a folder with canned answers."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocksalt import catalogue, settings
from rocksalt.host import Attributes, Host, Ran

REPO = Path(__file__).resolve().parents[2]
NOW = dt.datetime.now(dt.timezone.utc)

CONTROLS = """
title: Door lock
controls:
  LOCK-001:
    title: The door is locked
    severity: high
    rationale: An open door
      lets everybody in.
    references: ["lock(1)"]
  LOCK-002:
    title: The key is long
    severity: low
    rationale: Short keys are guessed.
    references: ["lock(1)"]
    floor: {size: {min: 4}}
    guarded: true
  LOCK-003:
    title: Somebody has a key
    severity: critical
    remedy: manual
    waivable: false
    rationale: Otherwise nobody gets in.
    references: ["lock(1)", "key(5)"]
"""
DEFAULTS = """
size: {type: integer, min: 1, max: 9, default: 6, help: Teeth of the key.}
kinds: {type: list, items: {type: string, choices: [disc, pin, wafer]}, default: [disc], help: Pin.}
shop: {type: mapping, values: {type: integer}, default: {mon: 8}, help: Hours.}
code: {type: string, secret: true, default: "", help: The code., formerly: [pin_code]}
"""
WATCH = """
title: Watchman
after: ["*"]
controls:
  WATCH-001:
    title: The watchman is awake
    severity: medium
    rationale: A sleeping one sees nothing.
    references: ["watch(1)"]
"""


def described(name: str, controls: str, defaults: str) -> catalogue.FamilyCatalogue:
    parsed = (catalogue.parse_yaml(text, name) for text in (controls, defaults))
    return catalogue.family(name, *parsed)


@pytest.fixture(scope="session")
def families() -> dict[str, catalogue.FamilyCatalogue]:
    """Two families: ``lock``, and ``watch``, which comes after everything."""
    return {
        "watch": described("watch", WATCH, ""),
        "lock": described("lock", CONTROLS, DEFAULTS),
    }


@pytest.fixture(scope="session")
def shipped() -> dict[str, catalogue.FamilyCatalogue]:
    """The families of the repository."""
    return {
        path.parent.name: described(
            path.parent.name, path.read_text(), (path.parent / "defaults.yaml").read_text()
        )
        for path in sorted(REPO.glob("salt/hardening/*/controls.yaml"))
    }


@pytest.fixture(scope="session")
def resolve(families) -> Callable[..., settings.Baseline]:
    """The baseline of the minion web1 for a pillar."""

    def call(pillar: Any = None, roles=(), minion: str = "web1", **os_settings: Any):
        return settings.resolve(families, pillar or {}, os_settings, minion, roles, NOW)

    return call


@pytest.fixture
def today() -> dt.date:
    return NOW.date()


@pytest.fixture
def waiver(today) -> Callable[..., dict[str, Any]]:
    """A good waiver; arguments replace parts of it."""
    good = {
        "reason": "the lock is on order",
        "owner": "ann",
        "approver": "bob",
        "expires": str(today + dt.timedelta(days=30)),
    }
    return lambda **other: {**good, **other}


class FakeHost(Host):
    """A folder instead of a host. Commands give the canned answer of their longest known
    beginning, and are not installed otherwise; everything belongs to root unless told.
    """

    def __init__(self, root: Path):
        super().__init__(str(root))
        self.answers: dict[tuple[str, ...], Ran] = {}
        self.owners: dict[str, str] = {}
        self.ran: list[tuple[str, ...]] = []

    def run(self, *command: str, stdin: str = "", timeout: float = 30) -> Ran:
        self.ran.append(command)
        for length in range(len(command), 0, -1):
            if command[:length] in self.answers:
                return self.answers[command[:length]]
        return Ran(127, "", f"{command[0]} is not installed")

    def answer(self, command: str, out: str = "", status: int = 0, err: str = "") -> None:
        self.answers[tuple(command.split())] = Ran(status, out, err)

    def attributes(self, path: str, follow: bool = True) -> Attributes | None:
        found = super().attributes(path, follow)
        owner = self.owners.get(path, "root")
        return found and dataclasses.replace(found, owner=owner, group=owner)

    def secure(self, path: str, owner: str, group: str, mode: str) -> None:
        self.owners[path] = owner
        self.path(path).chmod(int(mode, 8))

    def put(self, path: str, text: str = "", mode: int = 0o644, owner: str = "root") -> None:
        """A file, in folders that nobody but their owner can write."""
        target = self.path(path)
        for folder in reversed(Path(path).parents[:-1]):
            if not self.path(str(folder)).exists():
                self.path(str(folder)).mkdir()
                self.path(str(folder)).chmod(0o755)
        target.write_text(text)
        target.chmod(mode)
        self.owners[path] = owner


@pytest.fixture
def host(tmp_path) -> FakeHost:
    root = tmp_path / "host"
    root.mkdir()
    return FakeHost(root)


@pytest.fixture(scope="session")
def public_key() -> Callable[..., str]:
    """A line of authorized_keys: ``public_key("ssh-rsa", bits=2048)``. Its numbers are random, so
    nobody has the private half.
    """

    def make(kind: str = "ssh-ed25519", bits: int = 3072, comment: str = "ann@desk") -> str:
        if kind == "ssh-rsa":
            modulus = (1 << (bits - 1)) | int.from_bytes(os.urandom(bits // 8 - 1), "big")
            fields = [b"\x01\x00\x01", modulus.to_bytes(bits // 8 + 1, "big")]
        else:
            fields = [os.urandom(32)]
        blob = b"".join(struct.pack(">I", len(f)) + f for f in (kind.encode(), *fields))
        return f"{kind} {base64.b64encode(blob).decode()} {comment}"

    return make
