"""rocksalt.accounts.declared and the formats of its settings: mistakes told before anything is
touched.
"""

from __future__ import annotations

import pytest

from rocksalt import settings
from rocksalt.accounts import declared
from rocksalt.errors import InvalidSettings

HASH = "$y$j9T$QFX2dSX1sLcxJ4pmmQ5bI.$iCWJNfe.FbQpXdDtVV9OV8oM/3MYeGhsEYkoHT4UUR8"
ROOT = "hardening:accounts"


@pytest.fixture
def problems(shipped):
    """What is wrong with settings of accounts, and of other families."""

    def call(accounts, **others):
        pillar = {"accounts": accounts, **others}
        return declared.problems(settings.resolve(shipped, pillar, {}, "web1"))

    return call


@pytest.fixture
def malformed(shipped):
    """What the schema says of settings of accounts."""

    def call(accounts):
        with pytest.raises(InvalidSettings) as caught:
            settings.resolve(shipped, {"accounts": accounts}, {}, "web1")
        return str(caught.value)

    return call


@pytest.fixture
def ann(public_key):
    return {"keys": [public_key()], "nopasswd": True}


def test_nothing_declared_is_no_mistake(problems):
    assert problems({}) == []


def test_good_administrators(problems, ann, public_key):
    pillar = {
        "administrators": {"ann": ann, "bob": {"keys": [public_key()], "uid": 1500}},
        "password_hashes": {"bob": HASH},
        "users": {"web-deploy": {}},
    }
    assert problems(pillar) == []


def test_no_way_to_become_root(problems, public_key):
    (found,) = problems({"administrators": {"ann": {"keys": [public_key()]}}})
    assert found.startswith(f"{ROOT}:administrators:ann: sudo would ask ann for a password that")
    assert "nopasswd: true" in found


def test_names(problems, ann):
    found = problems({"administrators": {"root": ann, "Ann B": ann}})
    assert found[0].startswith(f"{ROOT}:administrators:root: root is no administrator's account")
    assert found[1].startswith(f"{ROOT}:administrators:Ann B: 'Ann B' is not an account name")
    (found,) = problems({"users": {"root": {}}})
    assert found.startswith(f"{ROOT}:users:root: 'root' is not an account name")


def test_one_user_declared_twice(problems, ann):
    (found,) = problems({"administrators": {"ann": ann}, "users": {"ann": {}}})
    assert found.startswith(f"{ROOT}:administrators:ann: ann is declared twice")


def test_one_uid_declared_twice(problems, ann):
    both = {"ann": {**ann, "uid": 1500}, "bob": {**ann, "uid": 1500}}
    (found,) = problems({"administrators": both})
    assert found == f"{ROOT}:administrators:bob:uid: 1500 is also the UID of ann; give each its own"


def test_a_shell_that_is_none(problems, ann):
    (found,) = problems({"administrators": {"ann": {**ann, "shell": "/usr/sbin/nologin"}}})
    assert found.startswith(f"{ROOT}:administrators:ann:shell: with /usr/sbin/nologin nobody can")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('command="backup" ', "its key is bound to one command"),
        ("cert-authority ", "its key is a certificate authority, not a log-in key"),
        ('expiry-time="20010203" ', "its key expired (20010203)"),
    ],
)
def test_a_key_that_gives_no_way_in(problems, public_key, options, reason):
    pillar = {"administrators": {"ann": {"keys": [options + public_key()], "nopasswd": True}}}
    assert problems(pillar) == [f"{ROOT}:administrators:ann:keys:0: gives no way in, for {reason}"]


def test_a_hash_for_somebody_else(problems, ann):
    (found,) = problems({"administrators": {"ann": ann}, "password_hashes": {"bob": HASH}})
    assert found.startswith(f"{ROOT}:password_hashes:bob: bob is no administrator")
    assert HASH not in found


def test_a_group_that_would_lock_everybody_out(problems, ann):
    accounts = {"administrators": {"ann": ann}, "administrators_group": "admins"}
    (found,) = problems(accounts)
    assert found.startswith(f"{ROOT}:administrators_group: members of admins could not log in")
    assert "lets in sudo only; name admins there" in found
    assert problems(accounts, sshd={"allow_groups": ["sudo", "admins"]}) == []
    assert problems(accounts, sshd={"enabled": False}) == []


BAD_HASHES = ["hunter2-Secret", "$1$abcdefgh$0123456789012345678901", "$y$j9T$x", "!", ""]


@pytest.mark.parametrize("value", BAD_HASHES)
def test_what_is_no_hash_is_never_printed(malformed, ann, value):
    pillar = {"administrators": {"ann": ann}, "password_hashes": {"ann": value}}
    text = malformed(pillar)
    assert f"{ROOT}:password_hashes:ann: *** is not a password hash of a known kind" in text
    assert not value or value not in text


GOOD_HASHES = [
    HASH,
    "$6$rounds=65536$abcdefgh$" + "a" * 86,
    "$6$abcdefgh$" + "a" * 86,
    "$5$abcdefgh$" + "a" * 43,
    "$2b$12$" + "a" * 53,
]


@pytest.mark.parametrize("value", GOOD_HASHES)
def test_hashes(problems, ann, value):
    assert problems({"administrators": {"ann": ann}, "password_hashes": {"ann": value}}) == []


def test_malformed_keys(malformed, public_key):
    text = malformed({"administrators": {"ann": {"keys": ["ssh-ed25519 AAAA"], "nopasswd": True}}})
    assert f"{ROOT}:administrators:ann:keys:0: 'ssh-ed25519 AAAA' is not a public key" in text
    long = public_key("ssh-rsa", 4096)[:-40]
    assert "characters)" in malformed({"administrators": {"ann": {"keys": [long]}}})


def test_a_private_key_is_never_printed(malformed):
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n"
    text = malformed({"administrators": {"ann": {"keys": [private]}}})
    assert "keys:0: *** is not a public key" in text and "b3Blb" not in text


def test_keys_are_required(malformed):
    assert f"{ROOT}:administrators:ann:keys: is missing" in malformed(
        {"administrators": {"ann": {}}}
    )
