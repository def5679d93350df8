"""rocksalt.nrpe.checks: a host against the settings."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
from types import SimpleNamespace

import nrpe_hosts
import pytest
from nrpe_hosts import ADDRESS, LISTENER, MONITOR, STATUS

from rocksalt import nrpe, permissions
from rocksalt.nrpe import checks, config, enforce, reading, tls
from rocksalt.pki import certificates


@pytest.fixture
def net(shipped, host):
    return nrpe_hosts.good(shipped, host)


@pytest.fixture
def differing(shipped, host, net):
    """Control id -> problem or reason, of those that are not as expected."""

    def call(**pillar) -> dict[str, str]:
        it = nrpe_hosts.comparison(shipped, host, net, **pillar)
        want, seen = it.expected(), it.seen()
        assert want.keys() == seen.keys() == it.setup.family.controls.keys()
        assert all(seen[i].reason for i in want if seen[i].problem)
        return {
            i: seen[i].reason or f"{seen[i].actual}"
            for i in want
            if seen[i].problem or want[i] != seen[i].actual
        }

    return call


def test_as_expected(differing):
    assert differing() == {}


def test_what_is_rendered(shipped, host, net):
    it = nrpe_hosts.comparison(shipped, host, net)
    options = config.effective(it.render()[nrpe.CONFIG])
    assert options["server_address"] == ADDRESS
    assert options["allowed_hosts"] == f"{MONITOR},{ADDRESS}"
    assert options["ssl_client_certs"] == "2"
    assert "include_dir" not in options and "pid_file" not in options
    assert options["command[check_disk_root]"] == (
        "/usr/lib/nagios/plugins/check_disk -w 10% -c 5% -p /"
    )
    assert net.knocked == []


def test_nobody_watches(shipped, host, net):
    pillar = {"networks": {"monitoring": []}, "firewall": {"allow": {"nrpe": []}}}
    it = nrpe_hosts.comparison(shipped, host, net, **pillar)
    seen = it.seen()
    assert seen["NRPE-001"].actual is False
    assert "hardening:nrpe:monitors names monitoring" in seen["NRPE-001"].reason
    others = {i: look for i, look in seen.items() if i != "NRPE-001"}
    assert {look.problem for look in others.values()} == {"skipped"}
    assert {look.reason for look in others.values()} == {"nobody watches this host (NRPE-001)"}
    assert it.expected().keys() == seen.keys()
    assert net.knocked == []


def test_the_packet_filter_keeps_them_out(differing):
    found = differing(firewall={"allow": {"nrpe": []}})
    assert set(found) == {"NRPE-001"}
    assert "hardening:firewall:allow" in found["NRPE-001"]
    assert "write nrpe: [monitoring] there" in found["NRPE-001"]


def test_a_default_that_is_nearly_everybody(shipped, host, net):
    wide = {"networks": {"monitoring": ["0.0.0.0/0"]}}
    seen = nrpe_hosts.comparison(shipped, host, net, **wide).seen()
    assert (seen["NRPE-001"].actual, seen["NRPE-003"].problem) == (False, "skipped")
    assert "nearly everybody" in seen["NRPE-001"].reason


@pytest.mark.parametrize(
    ("address", "public"),
    [("198.51.100.7", True), ("2001:db8::7", True), ("192.168.1.7", False), ("fd00::7", False)],
)
def test_a_public_address_is_named_by_a_person(shipped, host, net, address, public):
    host.path(nrpe.KEPT).unlink(missing_ok=True)
    net.own.append(address)
    net.towards = {"10.79.0.9": address}
    it = nrpe_hosts.comparison(shipped, host, net)
    assert ("is a public address; name" in it.problem()) is public
    named = nrpe_hosts.comparison(shipped, host, net, nrpe={"address": address})
    assert named.problem() == ""


def test_an_address_that_was_found_stays(shipped, host, net):
    """While the way to the monitoring host leads over another interface."""
    host.put(nrpe.KEPT, f"{ADDRESS}\n")
    net.towards = {"10.79.0.9": "10.80.0.2"}
    net.own.append("10.80.0.2")
    assert nrpe_hosts.comparison(shipped, host, net).address == ADDRESS
    net.own.remove(ADDRESS)
    gone = nrpe_hosts.comparison(shipped, host, net).problem()
    assert gone == (
        f"hardening:nrpe:address: {ADDRESS} is no address of this host any more; name another one, "
        f"or remove {nrpe.KEPT} to have one found"
    )
    host.put(nrpe.KEPT, "somewhere\n")
    odd = nrpe_hosts.comparison(shipped, host, net).problem()
    assert odd == f"{nrpe.KEPT}: 'somewhere' is no address; remove that file"


def test_an_address_in_another_spelling(shipped, host, net):
    net.own.append("fd00::7")
    other = {"networks": {"monitoring": ["fd00::9/128"]}, "nrpe": {"address": "fd00:0::0007"}}
    it = nrpe_hosts.comparison(shipped, host, net, **other)
    assert (it.address, it.problem(), it.place) == ("fd00::7", "", "fd00::7 5666")


def test_not_installed(host, differing):
    host.path(nrpe.PROGRAM).unlink()
    found = differing()
    assert len(found) == 16
    assert set(found.values()) == {"nagios-nrpe-server is not installed"}


def edit(path, old, new):
    def change(host, net):
        target = host.path(path)
        content = target.read_text()
        assert old in content
        target.write_text(content.replace(old, new))

    return change


def put(path, text="", mode=0o644):
    return lambda host, net: host.put(path, text, mode)


def unit(**other):
    return lambda host, net: nrpe_hosts.unit(host, **other)


def status(old, new):
    assert old in STATUS
    return put("/proc/700/status", STATUS.replace(old, new))


def answers(**other):
    def change(host, net):
        net.answers = dataclasses.replace(net.answers, **other)

    return change


def listens(*places):
    texts = (LISTENER.format(address=a, port=p, name=n) for a, p, n in places)
    return lambda host, net: host.answer("ss -Hltunpe", "".join(texts))


def stopped(**other):
    def change(host, net):
        unit(MainPID="0", **other)(host, net)
        listens()(host, net)

    return change


def certified(certificate, key=None, by="monitoring"):
    """Another certificate on the disk and in use."""

    def change(host, net):
        nrpe_hosts.put_certificates(host, certificate, key or nrpe_hosts.server()[1], by)
        net.answers = dataclasses.replace(net.answers, certificate=nrpe_hosts.shown(certificate))

    return change


def own(**how):
    found, key = nrpe_hosts.signed(**{"issuer": nrpe_hosts.ca(), **how})
    return certified(certificates.pem(found), certificates.key_pem(key))


def mode(path, value):
    return lambda host, net: host.path(path).chmod(value)


PLUGIN = f"{nrpe.PLUGINS}/check_disk"
CASES = {
    "stopped": (
        stopped(ActiveState="inactive"),
        {
            "NRPE-002": "inactive",
            **dict.fromkeys(
                ("NRPE-004", "NRPE-006", "NRPE-007", "NRPE-008", "NRPE-017"), "does not run"
            ),
        },
    ),
    "not at boot": (unit(UnitFileState="disabled"), {"NRPE-002": "disabled"}),
    "a command of others": (
        edit(nrpe.CONFIG, "command[check_load]", "command[x]=/bin/sh -c id\ncommand[check_load]"),
        {"NRPE-003": f"{nrpe.CONFIG} has command[x]"},
    ),
    "a file of others is included": (
        edit(nrpe.CONFIG, "debug=0", "debug=0\ninclude=/tmp/x.cfg"),
        {
            "NRPE-003": "has include=/tmp/x.cfg",
            **dict.fromkeys(("NRPE-008", "NRPE-009"), "has NRPE read /tmp/x.cfg as well"),
        },
    ),
    "an equals sign before an option": (
        edit(nrpe.CONFIG, "ssl_use_adh=0", "ssl_use_adh=0\n==dont_blame_nrpe=1"),
        {"NRPE-003": "has dont_blame_nrpe=1", "NRPE-009": "'dont_blame_nrpe': '1'"},
    ),
    "a second list of hosts": (
        edit(nrpe.CONFIG, "allowed_hosts=", "allowed_hosts=0.0.0.0/0\nallowed_hosts="),
        {"NRPE-003": "has allowed_hosts=0.0.0.0/0", "NRPE-008": "0.0.0.0/0 is heard"},
    ),
    "another NRPE than that of the unit": (
        unit(ActiveState="inactive", MainPID="0"),
        {
            "NRPE-002": f"a NRPE that {nrpe.UNIT} did not start listens on {ADDRESS} 5666",
            **dict.fromkeys(("NRPE-004", "NRPE-017"), "does not run"),
        },
    ),
    "an option is gone": (
        edit(nrpe.CONFIG, "ssl_use_adh=0\n", ""),
        {"NRPE-003": "lacks ssl_use_adh=0"},
    ),
    "comments alone were edited": (
        edit(nrpe.CONFIG, "# Written", "# Not written"),
        {"NRPE-003": "was edited"},
    ),
    "no configuration": (
        lambda host, net: host.path(nrpe.CONFIG).unlink(),
        {"NRPE-003": "None", "NRPE-008": "everybody is heard"},
    ),
    "anybody may write it": (mode(nrpe.CONFIG, 0o666), {"NRPE-003": "root:nagios 0666"}),
    "arguments are taken": (
        edit(nrpe.CONFIG, "dont_blame_nrpe=0", "dont_blame_nrpe=1"),
        {"NRPE-003": "has dont_blame_nrpe=1", "NRPE-009": "'dont_blame_nrpe': '1'"},
    ),
    "shell code is taken by the last line": (
        edit(nrpe.CONFIG, "ssl_use_adh=0", "ssl_use_adh=0\nallow_bash_command_substitution=1"),
        {
            "NRPE-003": "has allow_bash_command_substitution=1",
            "NRPE-009": "'allow_bash_command_substitution': '1'",
        },
    ),
    "more are allowed": (
        edit(nrpe.CONFIG, f"allowed_hosts={MONITOR}", f"allowed_hosts=10.0.0.0/8,{MONITOR}"),
        {"NRPE-003": "allowed_hosts=10.0.0.0/8", "NRPE-008": "10.0.0.0/8 is heard"},
    ),
    "it runs on something else": (answers(stranger="heard"), {"NRPE-008": "127.0.0.1 or ::1"}),
    "it does not answer": (
        answers(
            **dict.fromkeys(("without_certificate", "old_tls", "anonymous", "plain"), tls.SILENT),
            stranger=None, certificate="",
        ),
        {
            "NRPE-004": "shows none",
            "NRPE-007": "without a certificate: does not answer",
            "NRPE-008": f"does not answer on {ADDRESS} 5666",
        },
    ),
    "no certificate is asked for": (
        answers(without_certificate="served"),
        {"NRPE-007": "without a certificate: served"},
    ),
    "TLS 1.1": (answers(old_tls="served with TLSv1.1"), {"NRPE-007": "served with TLSv1.1"}),
    "no TLS at all": (
        answers(without_certificate=tls.CLOSED, plain="served", certificate=""),
        {"NRPE-004": "shows none", "NRPE-007": "without TLS: served"},
    ),
    "hosts.deny": (
        answers(without_certificate=tls.CLOSED, certificate=""),
        {"NRPE-004": "shows none", "NRPE-007": "/etc/hosts.deny"},
    ),
    "old TLS cannot be tried": (
        answers(old_tls="cannot be tried: NO_PROTOCOLS_AVAILABLE"),
        {"NRPE-007": "TLS 1.1 or older: cannot be tried"},
    ),
    "a certain fault beside one that nobody can tell": (
        answers(old_tls="cannot be tried: x", plain="served"),
        {"NRPE-007": "without TLS: served"},
    ),
    "a stranger cannot be tried": (
        answers(stranger="cannot be tried: no answer in 5 seconds"),
        {"NRPE-008": "whether a stranger is heard cannot be tried: no answer in 5 seconds"},
    ),
    "an old certificate is in use": (answers(certificate="ab" * 32), {"NRPE-004": "another one"}),
    "another command line": (
        put("/proc/700/cmdline", "/usr/sbin/nrpe\0-c\0/etc/nagios/nrpe.cfg\0-n\0-f\0"),
        {"NRPE-004": "it runs as '/usr/sbin/nrpe -c /etc/nagios/nrpe.cfg -n -f'"},
    ),
    "files of others": (
        put("/etc/nagios/nrpe.d/mine.cfg"),
        {"NRPE-005": "/etc/nagios/nrpe.d/mine.cfg is not the baseline's"},
    ),
    "files of others further down": (
        put("/etc/nagios/nrpe.d/a/mine.cfg"),
        {"NRPE-005": "/etc/nagios/nrpe.d/a/mine.cfg"},
    ),
    "local options": (
        put("/etc/nagios/nrpe_local.cfg", "command[a]=/bin/true\n"),
        {"NRPE-005": "/etc/nagios/nrpe_local.cfg"},
    ),
    "a drop-in of others": (
        put(f"/etc/systemd/system/{nrpe.UNIT}.d/zz.conf"),
        {"NRPE-005": "zz.conf changes the unit"},
    ),
    "a drop-in at run time": (
        unit(DropInPaths=f"{nrpe.DROP_IN} /run/systemd/system/{nrpe.UNIT}.d/a.conf"),
        {"NRPE-005": "a.conf changes the unit"},
    ),
    "a drop-in behind another one of its name": (
        put(f"/run/systemd/system.control/{nrpe.UNIT}.d/a.conf"),
        {"NRPE-005": f"/run/systemd/system.control/{nrpe.UNIT}.d/a.conf changes the unit"},
    ),
    "another unit": (
        unit(FragmentPath=f"/etc/systemd/system/{nrpe.UNIT}"),
        {"NRPE-005": f"/etc/systemd/system/{nrpe.UNIT} changes the unit"},
    ),
    "every address": (
        listens(("0.0.0.0", 5666, "nrpe")),
        {"NRPE-006": "NRPE listens on 0.0.0.0 5666; NRPE does not listen on 10.79.0.2 5666"},
    ),
    "two addresses": (
        listens((ADDRESS, 5666, "nrpe"), ("192.0.2.1", 5667, "nrpe"), ("0.0.0.0", 22, "sshd")),
        {"NRPE-006": "NRPE listens on 192.0.2.1 5667"},
    ),
    "somebody else at the port": (
        listens((ADDRESS, 5666, "python3")),
        {"NRPE-006": "NRPE does not listen on 10.79.0.2 5666"},
    ),
    "sockets cannot be listed": (
        lambda host, net: host.answer("ss -Hltunpe", status=1),
        {"NRPE-006": "ss, which lists the sockets of this host, fails"},
    ),
    "the key is everybody's": (mode(nrpe.KEY, 0o644), {"NRPE-010": "root:nagios 0644"}),
    "the folder is everybody's": (mode(nrpe.FOLDER, 0o755), {"NRPE-010": "root:nagios 0755"}),
    "the next key is everybody's": (put(nrpe.NEXT_KEY), {"NRPE-010": "next.key is root:root 0644"}),
    "others are in its group": (
        put("/etc/group", "adm:x:4:\nnagios:x:120:nagios,www-data,alice\n"),
        {"NRPE-010": "alice, www-data can read the key, by the group nagios"},
    ),
    "its group is the first one of somebody": (
        put("/etc/passwd", "nagios:x:110:120::/:/bin/false\nbob:x:1000:120::/:/bin/sh\n"),
        {"NRPE-010": "bob can read the key"},
    ),
    "a key of another certificate": (
        put(nrpe.KEY, nrpe_hosts.server("web2", "10.79.0.3")[1], 0o640),
        {"NRPE-011": "server.key is not the key of"},
    ),
    "a certificate for another host": (
        certified(*nrpe_hosts.server("web2", "10.79.0.3")),
        {"NRPE-011": "server.pem is for web2, 10.79.0.3"},
    ),
    "of another authority": (
        certified(*nrpe_hosts.server(by="other")),
        {"NRPE-011": "web1 was not signed by monitoring"},
    ),
    "for clients": (own(usage=True), {"NRPE-011": "is for client, not for a server"}),
    "nobody's": (own(names=False), {"NRPE-011": "server.pem is for nobody"}),
    "expired": (
        own(end=dt.timedelta(minutes=-1)),
        {"NRPE-011": "expired on", "NRPE-012": "the certificate ends on"},
    ),
    "soon to expire": (
        certified(*nrpe_hosts.server(days=29)),
        {"NRPE-012": "renew it from the master: salt-run monitoring.enrol web1"},
    ),
    "a damaged key": (
        put(nrpe.KEY, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o640),
        {
            **dict.fromkeys(checks.NEED_CERTIFICATE, "no certificate yet (NRPE-011)"),
            "NRPE-011": "server.key: is no private key in PEM",
        },
    ),
    "a public authority": (
        put(reading.PUBLIC_AUTHORITIES, f"# mine\n{nrpe_hosts.ca().text}"),
        {"NRPE-013": f"is in {reading.PUBLIC_AUTHORITIES}"},
    ),
    "a plugin of ours was edited": (
        put(f"{nrpe.PLUGINS}/check_luks", "#!/bin/sh\nexit 0\n", 0o755),
        {"NRPE-014": "check_luks was edited"},
    ),
    "a plugin of ours is gone": (
        lambda host, net: host.path(f"{nrpe.PLUGINS}/check_ossec").unlink(),
        {"NRPE-014": "check_ossec does not exist"},
    ),
    "a plugin is gone": (
        lambda host, net: host.path(PLUGIN).unlink(),
        {"NRPE-015": f"{PLUGIN} does not exist"},
    ),
    "a plugin is everybody's": (mode(PLUGIN, 0o777), {"NRPE-015": f"{PLUGIN} is root:root 0777"}),
    "a plugin cannot be run": (mode(PLUGIN, 0o750), {"NRPE-015": "cannot be run by nagios"}),
    "the folder of plugins is everybody's": (
        mode(nrpe.PLUGINS, 0o777),
        {"NRPE-015": f"{nrpe.PLUGINS} is root:root 0777"},
    ),
    "the drop-in was edited": (
        edit(nrpe.DROP_IN, "ProtectSystem=strict\n", ""),
        {"NRPE-016": "was edited"},
    ),
    "the drop-in is not read yet": (unit(NeedDaemonReload="yes"), {"NRPE-016": "False"}),
    "the sandbox is not in force": (unit(PrivateDevices="no"), {"NRPE-016": "no"}),
    "new privileges": (status("NoNewPrivs:\t1", "NoNewPrivs:\t0"), {"NRPE-016": "False"}),
    "no filter": (status("Seccomp:\t2", "Seccomp:\t0"), {"NRPE-016": "False"}),
    "root": (status("Uid:\t110\t110", "Uid:\t0\t0"), {"NRPE-017": "'0'"}),
    "another group": (
        status("Groups:\t120", "Groups:\t4 120"),
        {"NRPE-017": "nagios is in the groups adm"},
    ),
    "capabilities": (
        status("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000400"),
        {"NRPE-017": "True"},
    ),
}  # fmt: skip


def test_one_between_that_runs_out(host, net, differing):
    """What expires first counts, wherever it is in the chain."""
    root, root_key = nrpe_hosts.signed(name="root", is_ca=True)
    soon = dt.timedelta(days=10)
    issuer = SimpleNamespace(certificate=root, _key=root_key)
    middle, middle_key = nrpe_hosts.signed(name="middle", issuer=issuer, is_ca=True, end=soon)
    leaf, key = nrpe_hosts.signed(issuer=SimpleNamespace(certificate=middle, _key=middle_key))
    certified(certificates.pem(leaf), certificates.key_pem(key))(host, net)
    host.put(nrpe.CERTIFICATE, certificates.pem(leaf) + certificates.pem(middle))
    host.put(nrpe.AUTHORITY, certificates.pem(root))
    found = differing()
    assert set(found) == {"NRPE-012"}
    assert found["NRPE-012"].startswith("one above the certificate ends on ")


def test_a_list_of_who_may_read_the_key(shipped, host, net, monkeypatch):
    there = {str(host.path(nrpe.KEY)): ["system.posix_acl_access", "user.x"]}
    monkeypatch.setattr(
        permissions.os, "listxattr", lambda path, follow_symlinks: there.get(str(path), [])
    )
    monkeypatch.setattr(
        permissions.os, "removexattr", lambda path, name: there[os.readlink(path)].remove(name)
    )
    seen = nrpe_hosts.comparison(shipped, host, net).seen()["NRPE-010"]
    assert seen.reason == (
        f"{nrpe.KEY} is root:nagios 0640 and more by an ACL, expected root:nagios 0640"
    )
    enforce.secure(host)
    assert there == {str(host.path(nrpe.KEY)): ["user.x"]}


def test_arguments_are_not_shown(shipped, host, net):
    """They may be anything, and reports are read by many."""
    own = {"commands": {"db": {"plugin": "check_disk", "arguments": ["-p", "S3CRET"]}}}
    it = nrpe_hosts.comparison(shipped, host, net, nrpe=own)
    assert "lacks command[db]" in it.seen()["NRPE-003"].reason
    assert "S3CRET" not in str([it.seen(), it.expected()])


@pytest.mark.parametrize("middle", [False, True])
def test_a_plugin_that_is_a_link(shipped, host, net, middle):
    """What it leads to, and over what, is root's alone as well."""
    host.put("/opt/site/check_x", "x", 0o755)
    end = "/opt/site/check_x"
    if middle:
        end = "/opt/all/check_x"
        host.path("/opt/all").mkdir()
        host.path(end).symlink_to("../site/check_x")
    host.path(end).parent.chmod(0o777)
    up = "../" * len(nrpe.PLUGINS.strip("/").split("/"))
    host.path(f"{nrpe.PLUGINS}/check_x").symlink_to(f"{up}{end.lstrip('/')}")
    own = {"commands": {"x": {"plugin": "check_x"}}}
    found = nrpe_hosts.comparison(shipped, host, net, nrpe=own).seen()["NRPE-015"]
    folder = end.rpartition("/")[0]
    assert f"can be changed by others than root: {folder} is root:root 0777" in found.reason


def test_more_monitors_than_a_line_has(shipped, host, net):
    many = {"monitors": [f"10.1.{n}.0/24" for n in range(200)]}
    it = nrpe_hosts.comparison(shipped, host, net, nrpe=many)
    assert it.problem().startswith("hardening:nrpe:monitors: are too many for a line of NRPE")


@pytest.mark.parametrize("name", CASES)
def test_what_differs(host, net, differing, name):
    change, expected = CASES[name]
    change(host, net)
    found = differing()
    assert found.keys() == expected.keys(), found
    for identifier, words in expected.items():
        assert words in found[identifier]


@pytest.mark.parametrize("path", [nrpe.CONFIG, nrpe.DROP_IN, *reading.FILES])
def test_a_file_changed_after_the_start(shipped, host, net, path):
    nrpe_hosts.unit(host, ActiveEnterTimestampMonotonic="1000000")
    it = nrpe_hosts.comparison(shipped, host, net)
    first = dict.fromkeys((nrpe.CONFIG, nrpe.DROP_IN, *reading.FILES), None)
    found = it.reading.attributes
    changed = {p: dataclasses.replace(found[p], changed=0) for p in first} | {path: found[path]}
    it.reading = dataclasses.replace(
        it.reading, started=found[path].changed - 1, attributes={**found, **changed}
    )
    seen = it.seen()["NRPE-004"]
    assert seen.reason == f"NRPE was not started since {path} changed"


def test_no_certificate_yet(host, net, differing):
    for path in reading.FILES:
        host.path(path).unlink()
    stopped(ActiveState="inactive", UnitFileState="disabled")(host, net)
    found = differing()
    assert found.pop("NRPE-011").endswith("from the master: salt-run monitoring.enrol web1")
    silent = [i for i, why in found.items() if why == "NRPE does not run (NRPE-002)"]
    assert silent == ["NRPE-006", "NRPE-007", "NRPE-008", "NRPE-017"]
    assert {*found} - {*silent} == {*checks.NEED_CERTIFICATE}
    assert {found[i] for i in checks.NEED_CERTIFICATE} == {"NRPE has no certificate yet (NRPE-011)"}


def test_without_a_certificate_strangers_are_answered(shipped, host, net):
    """A NRPE of the distribution, or of somebody: that is never passed over."""
    host.path(nrpe.CERTIFICATE).unlink()
    host.put("/proc/700/cmdline", "/usr/sbin/nrpe\0-n\0-c\0/tmp/evil.cfg\0-f\0")
    listens(("0.0.0.0", 5666, "nrpe"))(host, net)
    net.answers = tls.Answers(*["served"] * 4, "heard", "")
    found = nrpe_hosts.comparison(shipped, host, net).seen()
    assert "without a certificate: served" in found["NRPE-007"].reason
    assert "is heard although it is not allowed" in found["NRPE-008"].reason
    assert "listens on 0.0.0.0 5666" in found["NRPE-006"].reason
    assert not any(found[i].problem or found[i].remedy for i in ("NRPE-006", "NRPE-007"))


def test_whose_business_a_certificate_is(shipped, host, net):
    """The pillar's is put there by the state, one of our authority is brought by a person."""
    for path in reading.FILES:
        host.path(path).unlink()
    assert nrpe_hosts.comparison(shipped, host, net).seen()["NRPE-011"].remedy == "manual"
    certificate, key = nrpe_hosts.server()
    given = {"ca": nrpe_hosts.ca().text, "certificate": certificate, "private_key": key}
    it = nrpe_hosts.comparison(shipped, host, net, nrpe=given)
    assert it.seen()["NRPE-011"].remedy == ""
    assert key not in str([it.seen(), it.expected()])


def test_a_given_certificate(shipped, host, net, differing):
    certificate, key = nrpe_hosts.server()
    given = {"ca": f"\n{nrpe_hosts.ca().text}", "certificate": certificate, "private_key": key}
    assert differing(nrpe=given) == {}
    assert differing(nrpe={**given, "private_key": "***"}) == {}
    other, _ = nrpe_hosts.server("web1", "10.79.0.4")
    found = differing(nrpe={**given, "certificate": other})
    assert found == {"NRPE-011": f"{nrpe.CERTIFICATE} is not what the pillar gives"}


def test_addresses(shipped, host, net, differing):
    errors = {*checks.NEED_ADDRESS}
    found = differing(nrpe={"address": "10.79.0.77"})
    assert {found[i] for i in errors} == {
        "hardening:nrpe:address: 10.79.0.77 is no address of this host"
    }
    far = {"networks": {"monitoring": ["192.0.2.9/32"]}}
    assert set(differing(**far)) >= errors
    it = nrpe_hosts.comparison(shipped, host, net, **far)
    assert it.seen()["NRPE-006"].problem == "error"
    assert "there is no way from this host" in it.seen()["NRPE-006"].reason
    two = {"networks": {"monitoring": ["192.0.2.9/32", "10.79.0.0/24"]}}
    assert nrpe_hosts.comparison(shipped, host, net, **two).address == ADDRESS


def test_a_waived_control_changes_nothing_else(shipped, host, net):
    off = {"controls": {"NRPE-005": {"off": "packages bring their own"}}}
    assert "NRPE-005" not in nrpe_hosts.comparison(shipped, host, net, nrpe=off).wanted


def test_what_a_look_costs(shipped, host, net):
    host.ran.clear()
    nrpe_hosts.comparison(shipped, host, net).seen()
    assert [command[0] for command in host.ran] == ["systemctl", "ss"]
    assert net.knocked == [(ADDRESS, 5666, "127.0.0.1")]


def test_every_reason_is_short(host, net, differing):
    for number in range(30):
        host.put(f"/etc/nagios/nrpe.d/{number}.cfg")
    (reason,) = differing().values()
    assert re.search(r"and 26 more$", reason)
