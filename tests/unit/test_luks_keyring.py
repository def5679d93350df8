"""Secrets that the kernel keeps for a while: rocksalt.luks.handover.keyring."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksalt.errors import Refused
from rocksalt.luks.handover import keyring

SECRET = b"AGE-SECRET-KEY-1\0\xff"


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path)
    keyring.take(str(tmp_path))


def shown(name: str) -> str:
    """What the kernel says of it."""
    lines = Path("/proc/keys").read_text().splitlines()
    return "".join(line for line in lines if f" {name}:" in line)


def test_a_secret_is_taken_once(name):
    keyring.keep(name, SECRET, 60)
    assert keyring.take(name) == SECRET
    assert keyring.take(name) is None


def test_a_newer_one_takes_its_place(name):
    keyring.keep(name, b"old", 60)
    keyring.keep(name, SECRET, 60)
    assert keyring.take(name) == SECRET
    assert keyring.take(name) is None


def test_the_kernel_ends_it(name):
    keyring.keep(name, SECRET, 900)
    assert re.search(" 1[45]m ", shown(name))
    keyring.keep(name, SECRET, 1)
    time.sleep(1.1)
    assert keyring.take(name) is None


def test_another_job_finds_it(name):
    """Which is another thread or process, and began before."""
    keyring.keep(name, SECRET, 60)
    found = []
    thread = threading.Thread(target=lambda: found.append(keyring.take(name)))
    thread.start()
    thread.join()
    assert found == [SECRET]
    child = os.fork()
    if child == 0:
        keyring.keep(name, SECRET, 60)
        os._exit(0)
    os.waitpid(child, 0)
    assert keyring.take(name) == SECRET


def test_a_kernel_without_it(name, monkeypatch):
    monkeypatch.setitem(keyring._CALLS, os.uname().machine, (100_000, 100_000))
    with pytest.raises(Refused, match="keyring cannot be used: Function not implemented"):
        keyring.keep(name, SECRET, 60)
    monkeypatch.delitem(keyring._CALLS, os.uname().machine)
    with pytest.raises(Refused, match="is not known for"):
        keyring.take(name)
