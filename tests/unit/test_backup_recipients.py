"""rocksalt.backup.crypto.recipients: nobody reads a snapshot whom the offline key did not name."""

from __future__ import annotations

import copy
import json

import pytest
from backup_chain import World, signer

from rocksalt.backup.crypto import age, recipients
from rocksalt.backup.errors import BackupError, Unverified


@pytest.fixture(scope="module")
def built():
    return World()


@pytest.fixture
def settings(built):
    return copy.deepcopy(built.settings)


def test_the_record(built, settings):
    ids = {name: recipient for name, (_, recipient) in built.ids.items()}
    assert recipients.record(settings) == {
        "format": 1,
        "instance": "salt1",
        "revision": 1,
        "recipients": sorted([ids["operator"], ids["escrow"]]),
        "escrow": ids["escrow"],
        "customers": {"acme": [ids["acme"]]},
    }


def test_the_record_does_not_tell_paths(settings):
    data = recipients.record_bytes(settings)
    assert b"/srv/acme" not in data
    assert json.loads(data) == recipients.record(settings)
    assert data.endswith(b"}\n")


def test_the_order_of_settings_does_not_count(settings):
    before = recipients.record_bytes(settings)
    settings["recipients"].reverse()
    settings["customers"] = dict(reversed(settings["customers"].items()))
    settings["customers"]["acme"]["paths"].append("/srv/more")
    assert recipients.record_bytes(settings) == before
    assert recipients.authorised(settings)


def test_authorised(settings):
    assert recipients.authorised(settings) == recipients.record(settings)
    settings["authority"] += " ann's offline key"
    settings["authorisation"] = f"\n{settings['authorisation'].strip()}"
    assert recipients.authorised(settings) == recipients.record(settings)


@pytest.mark.parametrize(
    "change",
    [
        {"instance": "salt2"},
        {"revision": 2},
        {"recipients": []},
        {"escrow": "age1x"},
        {"customers": {}},
        {"authorisation": ""},
        {"authorisation": "\udc00"},
        {"authority": signer().public},
        {"authority": ""},
    ],
)
def test_not_authorised(settings, change):
    with pytest.raises(Unverified) as caught:
        recipients.authorised({**settings, **change})
    sentence = str(caught.value)
    assert sentence.startswith("hardening:backup:authorisation: ")
    for step in (
        "salt-run backup.record",
        "ssh-keygen -Y sign -f authority -n rocksalt-recipients record.json",
        "record.json.sig",
    ):
        assert step in sentence


def test_one_more_recipient_is_not_authorised(settings):
    settings["recipients"].append(age.generate()[1])
    with pytest.raises(Unverified, match="revision 1 of the recipients was changed after"):
        recipients.authorised(settings)


def test_a_signature_for_something_else_does_not_authorise(built, settings):
    made = built.authority.sign(recipients.record_bytes(settings), "file")
    settings["authorisation"] = made.decode()
    with pytest.raises(Unverified, match="is signed as 'file', not as 'rocksalt-recipients'"):
        recipients.authorised(settings)


def test_the_recipients_of_a_part(built, settings):
    for value in (settings, recipients.record(settings)):
        assert recipients.of(value, "operator") == sorted(settings["recipients"])
        assert recipients.of(value, "customer-acme") == [built.ids["acme"][1]]


@pytest.mark.parametrize("part", ["customer-other", "customer-", "acme", ""])
def test_a_part_without_recipients(settings, part):
    with pytest.raises(BackupError, match="has no recipients"):
        recipients.of(settings, part)


def test_fingerprints(built, settings):
    acme = age.fingerprint(built.ids["acme"][1])
    operator = sorted(map(age.fingerprint, settings["recipients"]))
    assert recipients.fingerprints(settings, "customer-acme") == [acme]
    assert recipients.parts(recipients.record(settings)) == {
        "operator": operator,
        "customer-acme": [acme],
    }
