"""rocksalt.access.unrecorded: accepted keys of which the logbook knows nothing."""

from __future__ import annotations

import hashlib
import json
import os

import access_hosts
import pytest
from access_hosts import PKI, stamp

from rocksalt import logbook

KEYS = f"{logbook.STATE}/keys.json"
ADVICE = "see whose key it is, then salt-key -d, and -a where it is right"


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def wrong(shipped, host, net):
    def call(**pillar):
        it = access_hosts.comparison(shipped, host, net, access=pillar)
        return access_hosts.wrong(it).get("ACL-020", "")

    return call


def looked(host, seconds=-3600.0, **known):
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in known.items()}
    text = json.dumps({"looked": stamp(seconds), "known": digests})
    host.put(KEYS, text, 0o640, owner="salt")


@pytest.mark.parametrize(
    ("minions", "known", "found"),
    [
        ([], {"web1": "key"}, ""),
        ([], {}, "web1"),
        ([], {"web1": "another"}, "web1"),
        ([], {"WEB1": "key"}, "web1"),
        (["web*"], {}, ""),
        (["web*"], {"web1": "another"}, "web1"),
    ],
)
def test_a_key_has_to_have_a_record_or_a_name(host, net, wrong, minions, known, found):
    host.put(f"{PKI}/minions/web1", "key")
    host.put(f"{PKI}/minions/.key_cache", "key")
    looked(host, **known)
    said = f"{found} accepted with nobody's word in the logbook: {ADVICE}"
    assert wrong(minions=minions) == (said if found else "")


def test_one_that_is_not_declared_is_named_once(host, net, wrong):
    host.put(f"{PKI}/minions/web1", "key")
    looked(host)
    assert wrong(minions=["db1"]).count("web1") == 1


def test_younger_than_the_last_look(host, net, wrong):
    host.put(f"{PKI}/minions/web1", "key")
    looked(host, 60)
    assert wrong() == ""


def test_what_is_no_file_keeps_nobody_waiting(host, net, wrong):
    """The folder of keys is the master's user's."""
    folder = host.path(f"{PKI}/minions")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    looked(host, web1="key", pipe="", link="", folder="")
    assert wrong().startswith("folder; link; pipe accepted with nobody's word")


def test_without_a_logbook_nobody_knows(host, net, wrong):
    host.put(f"{PKI}/minions/web1", "key")
    assert wrong() == ""
    looked(host)
    assert wrong(logbook=False) == ""
    assert wrong()


def test_what_the_logbook_does_not_write(host, net, wrong):
    host.put(KEYS, '{"known": []}', 0o640, owner="salt")
    assert wrong() == f"{KEYS} is not what the logbook writes: remove it, and it is made anew"
