"""rocksalt.backup.family.setup: what settings amount to on a host, and which do not go together."""

from __future__ import annotations

import dataclasses
import json

import pytest
from backup_hosts import (
    baseline,
    drill_settings,
    master_settings,
    place,
    public,
    setup,
    vault_settings,
)

from rocksalt.backup import config
from rocksalt.backup.family.setup import DRILL, HOME, MONITOR, USER, instructions, problems

LET_IN = {"sshd": {"allow_groups": ["sudo", USER]}, "accounts": {"users": {USER: {}}}}


def wrong(shipped, own, **pillar):
    return problems(baseline(shipped, own, **pillar), place())


def without(mapping, *keys):
    return {key: value for key, value in mapping.items() if key not in keys}


def test_a_host_without_a_role_has_nothing_of_ours(shipped):
    it = setup(shipped, {})
    assert (it.roles, it.files(), it.own_keys(), it.folders()) == ([], {}, {}, {})
    assert wrong(shipped, {}) == []


def test_the_configuration_is_what_the_programs_read(shipped, tmp_path):
    it = setup(shipped, master_settings(instance=""))
    text, rights = it.files()[config.PATH]
    assert rights == "root:root 0600"
    path = tmp_path / "config.json"
    path.write_text(text)
    path.chmod(0o600)
    found = config.load(str(path))
    assert found["instance"] == "web1", "the minion's id"
    assert found["interval"] == 60


def test_secrets_are_in_a_file_of_their_own(shipped):
    secret = {"bucket": {"access_key": "A", "secret_key": "hidden"}}
    files = setup(shipped, {**master_settings(), "s3_credentials": secret}).files()
    assert "hidden" not in files[config.PATH][0]
    text, rights = files[config.CREDENTIALS]
    assert (json.loads(text), rights) == (secret, "root:root 0600")


def test_a_vault_is_readable_by_its_receiver(shipped):
    it = setup(shipped, vault_settings())
    assert it.files()[config.PATH][1] == f"root:{USER} 0640"
    assert it.folders()[config.FOLDER] == f"root:{USER} 0750"
    assert it.own_keys() == {config.SIGNING_KEY: f"{USER}:{USER} 0600"}
    assert it.account.file == f"{HOME}/.ssh/authorized_keys"
    assert it.instances == ["control"]


def test_where_sshd_looks_for_keys(shipped):
    files = {"authorized_keys_files": ["/etc/ssh/keys/%u"]}
    it = setup(shipped, vault_settings(user="depot"), sshd=files)
    assert it.account.file == "/etc/ssh/keys/depot"


@pytest.mark.parametrize("own", [master_settings, vault_settings, drill_settings])
def test_settings_that_go_together(shipped, own):
    assert wrong(shipped, own(), **LET_IN) == []


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({**master_settings(), **vault_settings()}, "receiver: this host is a master as well"),
        ({**master_settings(), **drill_settings()}, "drill: this host is a master as well"),
        (master_settings(location=" "), "hardening:backup:location: is empty"),
        ({"receiver": {"clients": {}, "largest": 1}}, "hardening:backup:receiver:path: is missing"),
        ({"receiver": {"path": "/srv"}}, "hardening:backup:receiver:clients: is missing"),
        (
            {**drill_settings(), "drill": without(drill_settings()["drill"], "signer")},
            "hardening:backup:drill:signer: is missing",
        ),
    ],
)
def test_settings_that_do_not(shipped, own, words):
    found = wrong(shipped, own, **LET_IN)
    assert any(words in problem for problem in found), found


def test_a_private_key_among_the_credentials_is_refused(shipped):
    secret = {"bucket": {"access_key": "A", "secret_key": "AGE-SECRET-KEY-1QQQ"}}
    (problem,) = wrong(shipped, {**master_settings(), "s3_credentials": secret})
    assert "holds a private key" in problem


def test_an_identity_is_what_makes_a_drill_host(shipped):
    own = drill_settings()
    assert setup(shipped, own).roles == [MONITOR, DRILL]
    own["drill"] = without(own["drill"], "identity")
    assert setup(shipped, own).roles == [MONITOR]
    assert wrong(shipped, own) == []


def test_the_id_of_a_minion_that_is_no_name_of_an_instance(shipped):
    here = dataclasses.replace(place(), minion="Web_1")
    found = problems(baseline(shipped, master_settings(instance="")), here)
    assert any("hardening:backup:instance: 'Web_1' needs lower-case" in it for it in found)


def test_clients_are_told_apart(shipped):
    key, rsa = public(), "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ== x"
    client = {"instance": "control", "key": key}
    own = vault_settings(
        clients={"a": client, "b": {**client, "key": f"{key} b"}, "C d": {**client, "key": rsa}}
    )
    found = "\n".join(wrong(shipped, own, **LET_IN))
    assert "clients:b:key: is also the key of a" in found
    assert "clients:C d: the name needs" in found
    assert "is no public key of the type ssh-ed25519" in found


def test_the_receiver_has_to_be_let_in(shipped):
    found = wrong(shipped, vault_settings())
    assert found == [
        "hardening:sshd:allow_groups: lets in sudo only; name rocksalt-vault there, the group of "
        "the backup's receiver",
        "hardening:accounts:users: does not name rocksalt-vault, the account of the backup's "
        "receiver; write rocksalt-vault: {} there",
    ]
    off = {"sshd": {"enabled": False}, "accounts": {"enabled": False}}
    assert wrong(shipped, vault_settings(), **off) == []


def test_what_the_offline_key_signs(shipped):
    own = master_settings()
    told = instructions(setup(shipped, own).settings)
    assert told["authorised"] is True
    assert json.loads(told["record"])["escrow"] == own["escrow"]
    assert any("ssh-keygen -Y sign" in command for command in told["commands"])
    assert instructions(setup(shipped, {**own, "revision": 2}).settings)["authorised"] is False
