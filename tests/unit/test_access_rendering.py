"""rocksalt.access.rendering: what the family puts on the host of a master."""

from __future__ import annotations

import datetime as dt

import access_hosts
import pytest
import yaml

from rocksalt import access
from rocksalt.access import door, minion, rendering
from rocksalt.access.door import conf, passwords


@pytest.fixture
def settings(shipped):
    def call(**more):
        baseline = access_hosts.baseline(shipped, access=more)
        return baseline.families[access.FAMILY].settings

    return call


def config(settings, now=access_hosts.NOW):
    return yaml.safe_load(rendering.config(settings, now))


def test_the_masters_file(settings):
    text = rendering.config(settings(), access_hosts.NOW)
    assert text.startswith(rendering.HEADER)
    found = yaml.safe_load(text)
    assert {*found["external_auth"]["rocksalt_file"]} == {"alice", "bob"}
    refused = (
        *("open_mode", "auto_accept", "file_recv", "permissive_pki_access"),
        *("netapi_allow_raw_shell", "enable_ssh_minions", "token_expire_user_override"),
    )
    assert [key for key in refused if found[key] is not False] == []
    assert (found["peer"], found["peer_run"], found["publisher_acl"]) == ({}, {}, {})
    assert found["netapi_dirs"] == [door.NETAPI_DIR]
    assert found["auth_dirs"] == [door.AUTH_DIR]
    assert found["token_expire"] == 8 * 3600
    assert found["publish_signing_algorithm"] == "PKCS1v15-SHA224"
    assert "user" not in found, "a master becomes another user when its files are that user's"


def test_no_secret_is_in_the_masters_file(settings):
    hashed = settings()["hashes"]["alice"]
    assert hashed not in rendering.config(settings(), access_hosts.NOW)
    assert f"alice:{hashed}\n" in rendering.users(settings())


def test_the_same_bytes_each_time(settings):
    first = rendering.config(settings(), access_hosts.NOW)
    people = dict(reversed(access_hosts.pillar()["access"]["users"].items()))
    assert rendering.config({**settings(), "users": people}, access_hosts.NOW) == first


def test_a_grant_that_is_over_is_gone(settings):
    grant = {"role": "break-glass", "targets": ["db1"], "reason": "x", "until": "2026-11-23"}
    eve = settings(users={"eve": {"grants": [grant]}})
    on, after = (dt.datetime(2026, 11, day, 12, tzinfo=dt.timezone.utc) for day in (23, 24))
    assert "eve" in config(eve, on)["external_auth"]["rocksalt_file"]
    assert "eve" not in config(eve, after)["external_auth"]["rocksalt_file"]


def test_the_door_takes_its_options(settings):
    made = config(settings(threads=7, login_failures=3, client_ca="/x.pem"))
    options = conf.read(made)
    assert (options.host, options.port) == (access_hosts.ADDRESS, 8000)
    assert (options.thread_pool, options.login_failures, options.client_ca) == (7, 3, "/x.pem")
    assert (options.ssl_crt, options.ssl_key) == (access_hosts.CERTIFICATE, access_hosts.KEY)
    assert options.eauth == "rocksalt_file"
    assert conf.clients(made) == {*made["netapi_enable_clients"]}


def test_ldap(settings):
    ldap = settings(backend="ldap", hashes={})
    assert conf.read(config(ldap)).eauth == "rocksalt_ldap"
    assert config(ldap)["token_expire"] == 3600, "nobody tells the master who was locked"
    assert rendering.users(ldap) is None


def test_without_an_address_there_is_no_door(settings):
    assert conf.SECTION not in config(settings(address=""))


def test_the_lines_of_passwords(settings):
    """Of people who are users alone; the door's module reads them."""
    text = rendering.users(settings(hashes={"gone": access_hosts.hashed("x")}))
    assert [line.partition(":")[0] for line in text.splitlines()[1:]] == ["alice", "bob"]
    assert passwords.may_enter(text, "alice", "a long one")
    assert not passwords.may_enter(text, "gone", "x")
    assert not passwords.may_enter(text, "bob", "a long one")


def test_the_module_renders_no_passwords(shipped, host):
    net = access_hosts.good(shipped, host)
    it = access_hosts.comparison(shipped, host, net)
    rendered = it.render()
    assert rendered[access_hosts.CONFIG] == it.config
    assert f"{door.NETAPI_DIR}/rocksalt_api.py" in rendered
    assert access.USERS not in rendered
    elsewhere = access_hosts.comparison(shipped, host, net, "web1").render()
    assert {*elsewhere} == {minion.path(access_hosts.FOLDER)}
