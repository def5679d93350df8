"""rocksalt.access.guarded: who can read the master's secrets and write what it obeys."""

from __future__ import annotations

import access_hosts
import pytest
from access_hosts import CACHE, MAIN, PKI

from rocksalt.access import writers

OTHER = "/etc/salt/master.d/zzz.conf"


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def wrong(shipped, host, net):
    def call(config="", **access):
        if config:
            host.put(OTHER, config, 0o640)
            host.groups[OTHER] = "salt"
        return access_hosts.wrong(access_hosts.comparison(shipped, host, net, access=access))

    return call


@pytest.mark.parametrize(
    "path", ["/etc/salt", "/etc/salt/master.d", f"{PKI}", f"{PKI}/minions", "/etc/salt/more"]
)
def test_folders_of_configuration_and_keys(host, net, wrong, path):
    host.put(f"{PKI}/minions/web1", "key", owner="salt")
    host.put("/etc/salt/more/x")
    assert wrong() == {}
    host.path(path).chmod(0o777)
    assert wrong() == {"ACL-019": f"{path} (root:root 0777) can be written by everybody"}


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("include: /opt/conf/*.conf\n", "/opt/conf/x.conf"),
        ("reactor: [{a/b: ['/opt/react/*.sls']}]\n", "/opt/react/x.sls"),
        ("reactor: [{a/b: /opt/react/x.sls}]\n", "/opt/react/x.sls"),
        ("reactor: /opt/reactor\n", "/opt/reactor"),
        ("reactor: /opt/reactor\n", "/opt/mapped.sls"),
        ("autosign_file: /opt/names\n", "/opt/names"),
        ("autosign_grains_dir: /opt/grains\n", "/opt/grains"),
        ("ext_pillar: [{cmd_yaml: 'python3 /opt/pillar.py %s'}]\n", "/opt/pillar.py"),
        ("master_tops: {ext_nodes: /opt/nodes}\n", "/opt/nodes"),
        ("pki_dir: /opt/pki\n", "/opt/pki/minions/web1"),
        ("master_roots: {base: [/opt/own]}\n", "/opt/own/x.sls"),
        ("thorium_roots: {base: [/opt/thorium]}\n", "/opt/thorium/x.sls"),
        ("returner_dirs: [/opt/returners]\n", "/opt/returners/x.py"),
    ],
)
def test_whatever_else_the_master_obeys(host, net, wrong, config, path):
    meant = ["reactor a/b", "ext_pillar cmd_yaml", "master_tops ext_nodes"]
    host.put("/opt/reactor", "[{a/b: [/opt/mapped.sls]}]\n")
    host.put("/opt/mapped.sls", "x: {}\n")
    if "include" in config:
        host.put(MAIN, f"user: salt\n{config}", 0o640)
        config = ""
    if path != "/opt/reactor":
        host.put(path, "timeout: 9\n" if path.endswith("conf") else "# nothing\n", 0o640)
    host.groups[path] = host.groups[MAIN] = "salt"
    assert wrong(config, automatic=meant) == {}
    host.path(path).chmod(0o662)
    found = wrong(config, automatic=meant)
    assert {*found} - {"ACL-018"} == {"ACL-019"}
    assert f"{path} (root:salt 0662) can be written by everybody" in found["ACL-019"]


def test_a_review_looks_at_the_same_places(shipped, host, net):
    """Both ask who can write what the master obeys."""
    opts = {
        "conf_file": MAIN,
        "pki_dir": PKI,
        "extension_modules": f"{CACHE}/extmods",
        "thorium_roots": {"base": ["/srv/thorium"]},
        "returner_dirs": ["/opt/returners"],
        "reactor": [{"a/b": ["/srv/react/*.sls", "salt://x.sls"]}, {"c": "/srv/one.sls"}],
        "ext_pillar": [{"cmd_json": "/opt/pillar %s"}, {"git": ["/opt/no"]}],
        "master_tops": {"ext_nodes": "sh /opt/nodes"},
        "autosign_file": "/etc/auto",
    }
    assert writers.places(opts) == {
        "thorium_roots": ["/srv/thorium"],
        "returner_dirs": ["/opt/returners"],
        "extension_modules": [f"{CACHE}/extmods"],
        "pki_dir": [PKI],
        "autosign_file": ["/etc/auto"],
        "reactor": ["/srv/one.sls", "/srv/react/*.sls"],
        "ext_pillar": ["/opt/pillar"],
        "master_tops": ["/opt/nodes"],
        "configuration": ["/etc/salt"],
        "salt-api": ["/usr/local/lib/rocksalt-api"],
    }


# What it tells ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            "pillar_opts: true\n",
            f"every minion gets the master's options, by pillar_opts ({OTHER})",
        ),
        ("log_level_logfile: all\n", f"by log_level_logfile: all ({OTHER})"),
        ("log_level: TRACE\n", "by log_level: TRACE"),
        ("log_granular_levels: {salt.auth: garbage}\n", "log_granular_levels:salt.auth: garbage ("),
        ("log_level: debug\nlog_granular_levels: {salt: info}\npillar_opts: false\n", ""),
    ],
)
def test_options_that_tell_what_is_secret(wrong, config, words):
    found = wrong(config)
    assert {*found} == ({"ACL-018"} if words else set())
    assert words in found.get("ACL-018", "")


def test_what_closes_the_file_of_the_package(host, net, wrong):
    host.put(MAIN, "user: salt\n", 0o644)
    host.groups[MAIN] = "root"
    assert wrong()["ACL-018"].endswith(
        ": chgrp salt /etc/salt/master && chmod 0640 /etc/salt/master"
    )
