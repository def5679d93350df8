"""rocksalt.transaction: what changed is put back, whatever becomes of a single step."""

from __future__ import annotations

import os

import pytest

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import Transaction


@pytest.fixture
def real(tmp_path) -> Host:
    return Host(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("full"), "full"),
        (Refused("not now"), "not now"),
        (KeyError("4711"), "KeyError: '4711'"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_a_step_that_fails_does_not_keep_others_from_being_taken(real, error, words):
    def fails():
        raise error

    real.write("/a", "old")
    change = Transaction(real)
    change.write("/a", "new", "0600")
    change.on_undo(fails)
    change.write("/b", "new", "0600")
    assert change.undo() == [words]
    assert (real.read("/a"), real.read("/b")) == ("old", None)
    assert change.undo() == []


def test_an_owner_is_put_back(host):
    host.put("/a", "old", 0o640, owner="4711")
    host.groups["/a"] = "4712"
    change = Transaction(host)
    change.write("/a", "new", "0600", "root:salt")
    assert host.access("/a") == "root:salt 0600"
    assert change.undo() == []
    assert (host.read("/a"), host.access("/a")) == ("old", "4711:4712 0640")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_an_owner_without_a_name_is_put_back(real):
    real.write("/a", "old", "0640")
    os.chown(real.path("/a"), 4711, 4712)
    change = Transaction(real)
    change.write("/a", "new", "0600", "root:root")
    assert real.access("/a") == "root:root 0600"
    assert change.undo() == []
    assert (real.read("/a"), real.access("/a")) == ("old", "4711:4712 0640")
