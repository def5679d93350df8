"""The Vagrantfile, for real: Vagrant and Docker in a host of the lab."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator

import pytest

from rocksalt_lab import Host, Lab, vagrant
from rocksalt_lab.container import Container

pytestmark = [pytest.mark.vagrant, pytest.mark.timeout(1800)]
CLONE = "/srv/rocksalt"
MINIONS = os.environ.get("ROCKSALT_MINIONS", "4")  # all that the Vagrantfile makes by itself
# libvirt's own stand-in for a hypervisor is enough for Vagrant to read its configuration.
DOCKER = {"VAGRANT_DEFAULT_PROVIDER": "docker", "LIBVIRT_DEFAULT_URI": "test:///default"}
# A stand-in for VirtualBox, of which Vagrant asks no more for that than the version.
EDIT = """
/etc/tried-out:
  file.managed:
    - contents: an edit on the desk
"""
EDITED_MODULE = """

def tried_out():
    return "an edit of a module"
"""
VBOXMANAGE = """#!/bin/sh
case "$*" in
*--version*) echo 7.0.20r163906 ;;
esac
"""


@pytest.fixture(scope="session")
def desk(lab: Lab) -> Container:
    """Somebody's desk: Vagrant, Docker, a clone of the repository."""
    host = vagrant.boot(lab, "desk", "10.79.0.5")
    host.write("/usr/local/bin/VBoxManage", VBOXMANAGE, mode="0755")
    vagrant.import_debian(host)
    vagrant.clone(host, CLONE)
    return host


@pytest.fixture
def clone(desk: Container) -> Iterator[Container]:
    """The desk, whose clone is put back as it was."""
    yield desk
    desk.run("docker ps --all --quiet | xargs --no-run-if-empty docker rm --force")
    vagrant.clone(desk, CLONE)


def run(host: Host, command: str, timeout: float = 60, **environment: str) -> tuple[int, str]:
    """The status and the output of a command in the clone, with Docker unless it says otherwise."""
    env = {**DOCKER, **environment}
    done = host.run(f"cd {CLONE} && {command} 2>&1", check=False, timeout=timeout, env=env)
    return done.returncode, done.stdout


def machines(host: Host) -> str:
    """What Docker still has of them."""
    return host.run("docker ps --all --quiet").stdout


@pytest.mark.parametrize("provider", ["docker", "libvirt", "virtualbox"])
def test_the_vagrantfile_is_valid(desk: Host, provider: str) -> None:
    status, said = run(desk, "vagrant validate", VAGRANT_DEFAULT_PROVIDER=provider)
    assert (status, said.strip()) == (0, "Vagrantfile validated successfully."), said


@pytest.mark.parametrize("provider", ["docker", "libvirt", "virtualbox"])
def test_a_mistake_in_it_is_seen(clone: Host, provider: str) -> None:
    block = f'machine.vm.provider "{provider}" .*'
    clone.run(f"sed -i 's/{block}/&\\n{provider}.mistake = 1/' {CLONE}/Vagrantfile")
    status, said = run(clone, "vagrant validate", VAGRANT_DEFAULT_PROVIDER=provider)
    assert status and "mistake" in said


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [("ROCKSALT_MINIONS", "12", "1, 2, 3"), ("ROCKSALT_SALT", "2019.2", "3008, 3006")],
)
def test_a_bad_value_is_refused(desk: Host, variable: str, value: str, allowed: str) -> None:
    status, said = run(desk, "vagrant status", **{variable: value})
    assert status and f'rocksalt: {variable} is "{value}"; it can be {allowed}' in said


def test_without_the_role_vagrant_the_highstate_refuses_and_all_is_destroyed(clone: Host) -> None:
    """Nobody would keep a way in: the baseline locks Vagrant's account and takes its key."""
    pillar = f"{CLONE}/vagrant/pillar/hardening.sls"
    clone.run(f"sed -i 's/minions: \\[\"\\*\"\\]/minions: [nobody]/' {pillar}")
    status, said = run(clone, "make vagrant-test", timeout=900, ROCKSALT_MINIONS="1")
    assert status
    for name in ("master", "web"):
        refused = rf"{name}: .*; the guarded controls of accounts are left as found"
        assert re.search(refused, said), said[-3000:]
    assert not machines(clone)


def test_an_edit_on_the_desk_is_tried_at_once(clone: Host) -> None:
    """Of a state and of a module; and the suite looks into the machines by ``docker exec``."""
    status, said = run(clone, "vagrant up --provider=docker", timeout=1200, ROCKSALT_MINIONS="1")
    assert status == 0, said[-6000:]
    clone.run(f"cat >>{CLONE}/salt/hardening/drift/init.sls", input=EDIT)
    clone.run(f"cat >>{CLONE}/_modules/drift.py", input=EDITED_MODULE)
    for mode in ("test=True", ""):
        said = ssh(clone, "master", f"sudo salt web state.apply hardening.drift {mode}")
        assert "/etc/tried-out" in said and not re.search("Failed: +[1-9]", said), said
    assert ssh(clone, "web", "sudo cat /etc/tried-out").strip() == "an edit on the desk"
    ssh(clone, "master", "sudo salt '*' saltutil.sync_all")
    assert ssh(clone, "master", "sudo salt '*' drift.tried_out").count("an edit of a module") == 2

    names = clone.run("docker ps --format '{{.Names}}'").stdout.split()
    hosts = ",".join(f"docker://{name}" for name in names)
    command = f".venv-3008/bin/pytest tests/infra -q --hosts={hosts}"
    status, said = run(clone, command, timeout=600)
    print(said)
    assert len(names) == 2 and status == 0, said[-3000:]
    assert int(re.findall(r"(\d+) passed", said)[-1]) > 2 * 100


def ssh(host: Host, machine: str, command: str) -> str:
    """The output of a command in a machine of one minion's fleet."""
    line = f"vagrant ssh {machine} --no-tty --command {shlex.quote(command)}"
    status, said = run(host, line, timeout=300, ROCKSALT_MINIONS="1")
    assert status == 0, said
    return said


def test_make_vagrant_test(desk: Host) -> None:
    status, said = run(desk, "make vagrant-test", timeout=1500, ROCKSALT_MINIONS=MINIONS)
    print(said)
    assert status == 0, said[-6000:]
    for step in ("a second highstate changes nothing", "testinfra", "no drift"):
        assert re.search(rf"^== {step}: done in \d+ s$", said, re.MULTILINE), said[-3000:]
    for name in ("master", *("web", "db", "log", "monitor")[: int(MINIONS)]):
        assert re.search(rf"^{name}: score .* 0 drift, .* 0 error$", said, re.MULTILINE), name
    assert not machines(desk)
