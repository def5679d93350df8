"""rocksalt.access.facts and .running: what runs on the host of a master, and on what."""

from __future__ import annotations

import dataclasses
import re
import time

import access_hosts
import pytest
from access_hosts import MINION

from rocksalt.access import controls, minion, problems, running
from rocksalt.access.facts import API, MASTER
from rocksalt.errors import Refused
from rocksalt.host import Host


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def wrong(shipped, host, net):
    return lambda: access_hosts.wrong(access_hosts.comparison(shipped, host, net))


def start(words, program="salt-master"):
    return f"{{ path=/usr/bin/{program} ; argv[]=/usr/bin/{program} {words} ; ignore_errors=no }}"


# Whose configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "read"),
    [
        ({"ExecStart": start("-c /opt/evil")}, "/opt/evil"),
        ({"ExecStart": start("-dc /opt/evil")}, "/opt/evil"),
        ({"ExecStart": start("-c/opt/evil/")}, "/opt/evil"),
        ({"ExecStart": start("--config-dir=/opt/evil -l info")}, "/opt/evil"),
        ({"ExecStart": start("--config /opt/evil")}, "/opt/evil"),
        ({"ExecStart": start("-c /etc/salt -c /opt/evil")}, "/opt/evil"),
        ({"Environment": "A=b SALT_MASTER_CONFIG=/opt/evil/master"}, "/opt/evil"),
        ({"Environment": "SALT_MASTER_CONFIG=/etc/salt/other"}, "/etc/salt/other"),
        ({"Environment": '"SALT_CONFIG_DIR=/opt/a b"'}, "/opt/a b"),
        ({"EnvironmentFiles": "/etc/default/salt (ignore_errors=yes)"}, "/opt/file"),
        (
            {
                "EnvironmentFiles": "/etc/default/none (ignore_errors=yes)\n"
                "EnvironmentFiles=/etc/default/salt (ignore_errors=no)\n"
                "EnvironmentFiles=/etc/default/last (ignore_errors=yes)"
            },
            "/opt/file",
        ),
    ],
)
@pytest.mark.parametrize("which", ["master", "api"])
def test_a_service_reads_another_configuration(host, net, wrong, unit, read, which):
    host.put("/etc/default/salt", "# SALT_CONFIG_DIR=/x\nSALT_CONFIG_DIR='/opt/file'\n")
    access_hosts.units(host, **{which: unit})
    assert wrong() == {
        "ACL-001": f"salt-{which}.service reads the configuration in {read}, "
        "and not that in /etc/salt"
    }


def test_a_process_that_was_started_on_another(host, net, wrong):
    """The unit was put right since."""
    host.put("/proc/700/cmdline", "/usr/bin/python3 /usr/bin/salt-master -c /opt/evil MainProcess")
    assert "reads the configuration in /opt/evil" in wrong()["ACL-001"]


def test_variables_that_systemd_gives_to_all(host, net, wrong):
    host.put("/proc/710/environ", "LANG=C\0SALT_CONFIG_DIR=/opt/evil\0")
    assert "salt-api.service reads the configuration in /opt/evil" in wrong()["ACL-001"]


@pytest.mark.parametrize(
    "words", ["", "-c /etc/salt", "--config-dir=/etc/salt/", "-l debug", "-c /etc/other"]
)
def test_the_same_by_another_name(host, net, wrong, words):
    host.path("/etc/other").symlink_to(host.path("/etc/salt"))
    access_hosts.units(host, master={"ExecStart": start(words)})
    assert wrong() == {}


# Processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("/usr/bin/python3\0-s\0/usr/bin/salt-master\0", {"ACL-001"}),
        ("python3.11\0-X\0dev\0-W\0ignore\0/opt/salt-master\0-d\0", {"ACL-001"}),
        ("/usr/bin/python3\0/usr/bin/salt-api\0-c\0/opt/evil\0", {"ACL-007"}),
        ("/usr/bin/salt-api\0", {"ACL-007"}),
        ("vim\0salt-api\0", set()),
        ("/usr/bin/python3\0/usr/bin/salt-master\0--version\0", set()),
        ("python3\0-c\0import x\0salt-api\0", set()),
    ],
)
@pytest.mark.parametrize("group", ["0::/system.slice/my-{}\n", "0::/user.slice\n"])
def test_a_second_one_beside_the_service(host, net, wrong, words, found, group):
    host.put("/proc/999/cmdline", words)
    host.put("/proc/999/cgroup", group.format(MASTER if "master" in words else API))
    why = wrong()
    assert {*why} == found
    assert not found or "process 999 is a " in "".join(why.values())


def test_processes_of_the_service_are_no_strays(host, net, wrong):
    for pid, unit in (("701", MASTER), ("711", API)):
        host.put(f"/proc/{pid}/cmdline", f"/usr/bin/python3\0/usr/bin/{unit[:-8]} Worker")
        host.put(f"/proc/{pid}/cgroup", f"1:name=systemd:/system.slice/{unit}\n0::/x/{unit}/y\n")
    assert wrong() == {}


@pytest.mark.parametrize("name", ["cmdline", "cgroup"])
@pytest.mark.parametrize("minion", [MINION, "web1"])
def test_a_process_that_ends_meanwhile(shipped, host, net, monkeypatch, name, minion):
    """Its files are there when they are opened, and cannot be read by then."""
    host.put("/proc/999/cmdline", "/usr/bin/salt-master\0")
    host.put("/proc/999/cgroup", "0::/user.slice\n")
    real = type(host).read

    def read(self, path):
        if path == f"/proc/999/{name}":
            host.remove("/proc/999/cmdline")
            host.remove("/proc/999/cgroup")
            host.path("/proc/999").rmdir()
            raise ProcessLookupError(3, "No such process")
        return real(self, path)

    monkeypatch.setattr(type(host), "read", read)
    it = access_hosts.comparison(shipped, host, net, minion)
    assert "process 999" not in it.seen()["ACL-001"].reason
    assert not [i for i, look in it.seen().items() if look.problem == "error"]


def test_a_socket_of_a_process_that_ends_meanwhile(host, net, wrong, monkeypatch):
    access_hosts.listening(host, f"{access_hosts.ADDRESS}:8000")
    lines = host.run("ss", "-Hltnp").out
    host.answer("ss -Hltnp", lines + access_hosts.LISTENING.format(place="10.1.1.1:9", pid=5))
    real = type(host).read

    def read(self, path):
        if path == "/proc/5/cgroup":
            raise ProcessLookupError(3, "No such process")
        return real(self, path)

    monkeypatch.setattr(type(host), "read", read)
    assert wrong() == {}


def test_what_ends_is_read_as_nothing(monkeypatch):
    """As the kernel has it."""

    def gone(self, path):
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(Host, "read", gone)
    assert running.of_process(Host(), "1", "cmdline") == ""


# systemd ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("out", "status"), [("", 0), ("", 1), ("Id=other.service\n", 0)])
def test_systemd_that_does_not_answer(shipped, host, net, out, status):
    host.answer(f"systemctl show {MASTER} {API}", out, status, "Failed to connect to bus")
    for name in (MINION, "web1"):
        seen = access_hosts.comparison(shipped, host, net, name).seen()
        assert seen[controls.DECLARED].problem == "error"
        assert re.search("systemctl show .* fails: Failed to", seen[controls.DECLARED].reason)
        apart = (controls.DECLARED, *minion.IDS)
        others = {look.problem for i, look in seen.items() if i not in apart}
        assert others == ({"error"} if name == MINION else {"skipped"})
        assert not [look for look in seen.values() if look.reason == "this host has no Salt master"]


def test_without_systemd_nothing_is_enforced_in_silence(shipped, host, net):
    host.answer(f"systemctl show {MASTER} {API}", "", 1, "Failed to connect to bus")
    it = access_hosts.comparison(shipped, host, net)
    with pytest.raises(Refused, match="whether they run, fails"):
        assert it.governed
    assert not access_hosts.comparison(shipped, host, net, "web1").governed


# Values of elsewhere ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "differ"),
    [
        ("token_expire: sdb://vault/hours", {"ACL-017"}),
        ("peer: {'.*': [sdb://vault/x]}", {"ACL-015"}),
        ("auth.ldap.bindpw: sdb://vault/password", set()),
    ],
)
def test_what_only_the_master_looks_up(host, net, wrong, config, differ):
    host.put("/etc/salt/master.d/zzz.conf", f"{config}\n", 0o640)
    host.groups["/etc/salt/master.d/zzz.conf"] = "salt"
    found = wrong()
    assert {*found} == differ
    assert all("which only the master looks up" in why for why in found.values())
    assert all("sdb://vault/" in why and "zzz.conf" in why for why in found.values())


# Settings that were kept --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["file", "ldap"])
def test_kept_settings_have_no_passwords_to_contradict(shipped, backend):
    """The master is away, and its secrets with it."""
    found = access_hosts.baseline(shipped, access={"backend": backend})
    family = found.families["access"]
    kept = dataclasses.replace(family, settings=family.public_settings)
    assert kept.settings["hashes"] == "***"
    families = {**found.families, "access": kept}
    assert problems.problems(dataclasses.replace(found, families=families), MINION) == []


# Files that are included --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/etc/salt/more/x.conf", "/opt/more.conf", "/opt/gone/x.conf"])
def test_an_included_file_that_goes_was_read_at_the_start(host, net, wrong, name):
    host.put(access_hosts.MAIN, f"user: salt\ninclude: [more/*.conf, {name}]\n", 0o640)
    for path in (access_hosts.MAIN, name):
        host.put(path, host.read(path) or "token_expire: 3600\n", 0o640)
        host.groups[path] = "salt"
    time.sleep(0.02)
    access_hosts.units(host, started=0)
    assert wrong() == {}
    time.sleep(0.02)
    host.path(name).unlink()
    folder = name.rpartition("/")[0]
    assert wrong() == {
        i: f"{unit} was not started since {folder} changed"
        for i, unit in (("ACL-005", MASTER), ("ACL-009", API))
    }


def test_a_file_that_salt_ignores_is_named(host, net, wrong):
    path = "/etc/salt/master.d/x.conf"
    host.put(path, "token_expire: 5\npeer: {}\ntoken_expire: 6\n", 0o640)
    sentence = f"{path} has the key token_expire twice (line 3), so that Salt takes nothing of it"
    found = wrong()
    assert {found[i] for i in ("ACL-002", "ACL-004", "ACL-015", "ACL-017")} == {sentence}


def test_an_option_that_is_to_be_empty_is_a_whole_sentence(host, net, wrong):
    text = host.read(access_hosts.CONFIG)
    host.path(access_hosts.CONFIG).write_text(text.replace("client_ca:", "client_cb:"))
    assert "rocksalt_api:client_ca is absent, expected nothing" in wrong()["ACL-007"]
