"""rocksalt.access.trusting and .unasked: whom the master trusts, and what it does by itself."""

from __future__ import annotations

import access_hosts
import pytest
from access_hosts import CONFIG, PKI

OTHER = "/etc/salt/master.d/zzz.conf"
ACCEPTS = "x:\n  wheel.key.accept:\n    - args: [{match: web1}]\n"


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def look(shipped, host, net):
    """What differs, and why, with a file of options and settings of the family."""

    def call(config="", **access):
        if config:
            host.put(OTHER, config, 0o640)
            host.groups[OTHER] = "salt"
        it = access_hosts.comparison(shipped, host, net, access=access)
        return access_hosts.wrong(it), it.seen()

    return call


@pytest.mark.parametrize(
    ("config", "control", "words"),
    [
        ("eauth_tokens: rediscluster\n", "ACL-004", "eauth_tokens is rediscluster"),
        ("ipc_mode: tcp\n", "ACL-004", "ipc_mode is tcp, expected ipc"),
        ("eauth_tokens.cache_driver: redis\n", "ACL-004", "eauth_tokens.cache_driver is redis"),
        ("eauth_tokens.cache_driver: null\ncache: redis\n", "ACL-004", "cache_driver is redis"),
    ],
)
def test_where_tokens_and_sockets_are(look, config, control, words):
    found, _ = look(config)
    assert {*found} == {control}
    assert words in found[control]
    assert OTHER in found[control] or "cache: redis" in config


def test_tokens_in_files(look):
    assert look("eauth_tokens.cache_driver: null\neauth_tokens: localfs\nipc_mode: ipc\n")[0] == {}


# By itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("engines: [{webhook: {port: 80}}, thorium]\n", ["engine webhook", "engine thorium"]),
        ("engines: {slack: {token: sdb_no}}\n", ["engine slack"]),
        (
            "schedule: {x: {function: salt.wheel, args: [key.accept_all], seconds: 60}}\n",
            ["schedule x"],
        ),
        ("ext_pillar: [{cmd_yaml: 'curl http://x | cat'}, {git: []}]\n", ["ext_pillar cmd_yaml"]),
        ("ext_pillar: [{cmd_json: sdb://a/b}]\n", ["ext_pillar cmd_json"]),
        ("master_tops: {ext_nodes: /tmp/x, saltclass: {}}\n", ["master_tops ext_nodes"]),
        ("reactor: [{'a/*': [/srv/react/x.sls]}]\n", ["reactor a/*"]),
        ("reactor: /etc/salt/reactor\n", ["reactor b/c"]),
    ],
)
def test_what_the_master_does_by_itself(host, look, config, names):
    host.put("/srv/react/x.sls", "x:\n  local.cmd.run: []\n")
    host.put("/etc/salt/reactor", "- b/c: /srv/react/*.sls\n")
    found, seen = look(config)
    assert {*found} == {"ACL-015"}
    assert seen["ACL-015"].actual["does by itself"] == names
    assert f"hardening:access:automatic does not name: {'; '.join(names)}" in found["ACL-015"]
    assert look(config, automatic=names)[0] == {}


def test_declared_reactions_accept_no_keys(host, look):
    """Also one of many that a glob names."""
    host.put("/srv/react/a.sls", "x:\n  local.test.ping: []\n")
    config, meant = "reactor: [{a/b: [/srv/react/*.sls]}]\n", ["reactor a/b"]
    assert look(config, automatic=meant)[0] == {}
    host.put("/srv/react/b.sls", ACCEPTS)
    assert look(config, automatic=meant)[0] == {
        "ACL-015": "keys are accepted by reactor a/b: /srv/react/b.sls"
    }


def test_reactions_that_cannot_be_looked_at(look):
    """They may be in git."""
    _, seen = look("reactor: [{a/b: ['salt://react/x.sls']}]\n", automatic=["reactor a/b"])
    assert seen["ACL-015"].problem == "error"
    assert seen["ACL-015"].reason == "reactor a/b: salt://react/x.sls cannot be read here"


def test_a_map_of_reactions_that_is_no_yaml(host, look):
    host.put("/etc/salt/reactor", "a: [b\n")
    _, seen = look("reactor: /etc/salt/reactor\n")
    assert seen["ACL-015"].problem == "error" and "reactor is no YAML" in seen["ACL-015"].reason


# LDAP ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("server: ldap.x", "passwords go to ldap://ldap.x as they are"),
        ("uri: ldap://ldap.x:389", "ldap://ldap.x:389 as they are"),
        ("uri: 'ldaps://a ldap://b'", "to ldap://b as they are"),
        ("uri: ldap://x\nauth.ldap.tls: true", "to ldap://x as they are"),
        ("uri: ldap://localhost.evil.x", "ldap://localhost.evil.x"),
        ("uri: ldaps://x\nauth.ldap.no_verify: true", "no_verify is yes"),
        ("uri: ldaps://x\nauth.ldap.anonymous: true", "auth.ldap.anonymous is yes"),
        ("server: ldap.x\nauth.ldap.tls: true", ""),
        ("server: ldap.x\nauth.ldap.starttls: true", ""),
        ("uri: ldaps://ldap.x", ""),
        ("uri: ldap://127.0.0.1:389/", ""),
        ("uri: ldapi://%2fvar%2frun%2fldapi", ""),
        ("basedn: dc=x", ""),
    ],
)
def test_ldap(shipped, host, net, options, words):
    ldap = {"backend": "ldap", "hashes": {}}
    host.put(OTHER, f"auth.ldap.{options}\n", 0o640)
    host.groups[OTHER] = "salt"
    host.put(CONFIG, access_hosts.comparison(shipped, host, net, access=ldap).config, 0o640)
    host.groups[CONFIG] = "salt"
    it = access_hosts.comparison(shipped, host, net, access=ldap)
    found = access_hosts.wrong(it)
    assert ("ACL-015" in found) == bool(words)
    assert words in found.get("ACL-015", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("TLS_REQCERT never", "/etc/ldap/ldap.conf says TLS_REQCERT never, expected demand"),
        ("tls_reqcert\tallow", "TLS_REQCERT allow"),
        ("TLS_REQCERT demand", ""),
        ("#TLS_REQCERT never", ""),
    ],
)
def test_what_all_programs_of_the_host_take_for_a_directory(shipped, host, net, line, words):
    ldap = {"backend": "ldap", "hashes": {}}
    host.put(OTHER, "auth.ldap.uri: ldaps://x\n", 0o640)
    host.groups[OTHER] = "salt"
    host.put(CONFIG, access_hosts.comparison(shipped, host, net, access=ldap).config, 0o640)
    host.groups[CONFIG] = "salt"
    host.put("/etc/ldap/ldap.conf", f"URI ldaps://x\n{line}\n", 0o644)
    found = access_hosts.wrong(access_hosts.comparison(shipped, host, net, access=ldap))
    assert ("ACL-015" in found) == bool(words)
    assert words in found.get("ACL-015", "")


def test_without_ldap_its_options_mean_nothing(look):
    assert look("auth.ldap.server: x\nauth.ldap.no_verify: true\n")[0] == {}


# Keys of minions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minions", "strange"),
    [
        (["web*", "db1"], ""),
        (["web[12]", "db?"], ""),
        (["web1", "db1"], "web2"),
        (["WEB*", "db1"], "web1; web2"),
    ],
)
def test_accepted_keys(host, look, minions, strange):
    for name in ("web1", "web2", "db1", access_hosts.MINION, ".key_cache"):
        host.put(f"{PKI}/minions/{name}", "key")
    access_hosts.surveyed(host, web2="signs", db1="signs", master1="signs")
    found, seen = look(minions=minions)
    want = {"ACL-020": f"accepted, and not named by hardening:access:minions: {strange}; "
            "salt-key -d, or name it"}  # fmt: skip
    assert found == (want if strange else {})
    assert seen["ACL-020"].actual["accepted, not declared"] == strange.split("; ") or not strange


def test_without_a_list_of_minions_they_are_not_compared(shipped, host, net, look):
    host.put(f"{PKI}/minions/evil", "key")
    access_hosts.surveyed(host, evil="signs")
    found, seen = look()
    assert found == {}
    said = "not compared, as hardening:access:minions is empty"
    assert seen["ACL-020"].actual["accepted, not declared"] == said
    it = access_hosts.comparison(shipped, host, net)
    assert it.expected()["ACL-020"]["accepted, not declared"] == said


@pytest.mark.parametrize(("driver", "status"), [("localfs_key", ""), ("redis", "error")])
def test_keys_that_are_elsewhere(look, driver, status):
    _, seen = look(f"keys.cache_driver: {driver}\n")
    assert seen["ACL-020"].problem == status
    assert not status or "keys.cache_driver redis" in seen["ACL-020"].reason
