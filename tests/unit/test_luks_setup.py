"""rocksalt.luks.family.setup: what settings amount to on a host, and which do not go together."""

from __future__ import annotations

import pytest
from luks_hosts import GLOBEX, LET_IN, OPERATOR, USER, baseline, own, volume

from rocksalt.errors import Refused
from rocksalt.luks import config, program
from rocksalt.luks.family.setup import HOME, Setup, container, problems

SOCKET = "rocksalt-volumes-acme.socket"

MISTYPED = GLOBEX[:-1] + ("q" if GLOBEX.endswith("x") else "x")


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """In place of the true one, which test_luks_program.py looks at."""
    monkeypatch.setattr(program, "sources", lambda: {"rocksalt/__init__.py": b""})


def setup(shipped, *args, **pillar):
    return Setup(baseline(shipped, *args, **pillar))


def test_a_host_without_volumes_has_nothing_of_ours(shipped):
    it = setup(shipped, {"customers": own()["customers"]})
    assert (it.files(), it.folders(), it.units(), it.packages()) == ({}, {}, {}, [])
    assert (it.account, it.started(), it.user) == (None, {}, "root")


def test_a_host_with_a_volume(shipped, tmp_path):
    it = setup(shipped, own())
    text, rights = it.files()[config.PATH]
    assert rights == "root:root 0600"
    path = tmp_path / "config.json"
    path.write_text(text)
    path.chmod(0o600)
    assert list(config.volumes(config.load(str(path)))) == ["data"]
    assert it.files()[program.PATH][1] == "root:root 0755"
    assert it.folders() == dict.fromkeys((config.FOLDER, config.STATE), "root:root 0700")
    assert it.packages() == ["cryptsetup-bin"]
    assert it.started() == {SOCKET: "active, enabled"}
    assert SOCKET in " ".join(it.units())


def test_what_other_file_systems_need(shipped):
    it = setup(shipped, own(data=volume(filesystem="xfs")))
    assert it.packages() == ["cryptsetup-bin", "xfsprogs"]


def test_only_customers_with_volumes_here_are_let_in(shipped):
    it = setup(shipped, own())
    assert list(it.customers) == ["acme"]
    assert it.account is not None
    assert it.account.file == f"{HOME}/.ssh/authorized_keys"
    assert 'relay acme"' in it.account.text
    assert "globex" not in it.account.text


def test_without_ssh_keys_nobody_is_let_in(shipped):
    it = setup(shipped, own(ssh=False))
    assert it.account is None
    assert it.units() == {}


def test_a_key_service_opens_volumes_at_boot(shipped):
    it = setup(shipped, own(ssh=False, data=volume(key_command=["/usr/bin/key"])))
    assert it.started() == {"rocksalt-luks-open.service": "enabled"}


def test_where_sshd_looks_for_keys(shipped):
    sshd = {"authorized_keys_files": ["/etc/ssh/keys/%u"]}
    assert setup(shipped, own(), sshd=sshd).account.file == f"/etc/ssh/keys/{USER}"


def test_who_reads_headers_of_the_operator(shipped):
    assert setup(shipped, own()).recipients == []
    assert setup(shipped, backup={"recipients": [OPERATOR]}).recipients == [OPERATOR]


def test_settings_that_go_together(shipped, host):
    assert problems(baseline(shipped, own(), **LET_IN), host) == []
    assert problems(baseline(shipped), host) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"exempt": {"home": "no"}}, "hardening:luks:exempt: 'home' is neither swap nor a mount"),
        (own(data=volume(confirm="virtio-other")), "hardening:luks:volumes:data:confirm: is"),
        (own(data=volume(customer="nobody")), "hardening:luks:volumes:data:customer: 'nobody'"),
        (own(a=volume(mount="/srv/a"), b=volume(mount="/srv/b")), "volumes:b:device: "),
        ({"customers": {"acme": {"recipients": [MISTYPED]}}}, "customers:acme:recipients"),
    ],
)
def test_settings_that_do_not(shipped, host, settings, words):
    (found,) = problems(baseline(shipped, settings, **LET_IN), host)
    assert words in found


def test_customers_have_to_be_let_in(shipped, host):
    assert problems(baseline(shipped, own()), host) == [
        f"hardening:sshd:allow_groups: lets in sudo only; name {USER} there, the group of "
        "customers who hand over keys",
        f"hardening:accounts:users: does not name {USER}, the account of customers who hand over "
        f"keys; write {USER}: {{}} there",
    ]
    assert problems(baseline(shipped, own(ssh=False)), host) == []


def test_settings_that_make_no_sense_amount_to_nothing(shipped):
    with pytest.raises(Refused, match="'nobody' is none of"):
        _ = setup(shipped, own(data=volume(customer="nobody"))).volumes


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/proc/1/environ", "HOME=/\0container=docker\0"),
        ("/proc/1/cgroup", "12:pids:/docker/0123\n0::/docker/0123\n"),
        ("/proc/self/mountinfo", "9 1 8:1 /x/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"),
    ],
)
def test_docker_shows_in_more_than_a_file(shipped, host, path, text):
    host.put("/proc/self/mountinfo", "9 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    host.put("/proc/1/environ", "HOME=/\0TERM=linux\0")
    host.put("/proc/1/cgroup", "0::/init.scope\n")
    assert container(host) == ""
    host.put("/.dockerenv")
    assert container(host) == ""
    assert problems(baseline(shipped, own(), **LET_IN), host) == []
    host.put(path, text)
    assert container(host) == "docker"


def test_the_account_is_not_that_of_the_backup(shipped, host):
    user = {"receiver": {"path": "/srv/backup", "clients": {}, "user": USER}}
    (found,) = problems(baseline(shipped, own(), **LET_IN, backup=user), host)
    assert found == (
        f"hardening:luks:user: {USER} is the account of hardening:backup:receiver as well; each "
        "needs its own"
    )


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        ("/run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("/run/host/container-manager", "", "container"),
        ("/run/other", "", ""),
    ],
)
def test_a_container_has_no_disks(shipped, host, path, text, kind):
    host.put(path, text)
    assert container(host) == kind
    found = problems(baseline(shipped, own(), **LET_IN), host)
    assert len(found) == bool(kind)
    assert all("hardening:luks:volumes: this host is a container" in it for it in found)
