"""The lab itself: hosts are real, separate from the machine and from each other, and go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksalt_lab import Host, Lab, LabError, image, system
from rocksalt_lab.cli import main
from rocksalt_lab.lab import cgroup_roots, sweep
from rocksalt_lab.system import RUN, cache, mounts_below, sh

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def other(lab: Lab) -> Iterator[Host]:
    """A host of a second lab with the name and address of one in the first."""
    with Lab.start(release=lab.release, salt=lab.salt) as second:
        yield second.host("web1", "10.79.0.11")


def traces(id: str) -> list[str]:
    """What of a run can still be seen on this machine."""
    roots = [*cgroup_roots("cgroup2"), *cgroup_roots("cgroup")]
    paths = [RUN / id, cache() / "disks" / id, *(root / f"rocksalt-lab-{id}" for root in roots)]
    found = [str(path) for path in paths if path.exists()] + mounts_below(RUN / id)
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [str(process)] * (str(RUN / id).encode() in process.read_bytes())
        except OSError:
            continue  # ended meanwhile
    return found


def machine(lab: Lab) -> dict[str, str]:
    """What a lab could change on the machine: links, addresses, routes, rules, mounts, sysctls."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {
        "links": sh("ip", "-oneline", "link").stdout,
        "addresses": sh("ip", "-oneline", "-4", "address").stdout,
        "routes": sh("ip", "route", "show", "table", "all").stdout,
        "namespaces": sh("ip", "netns").stdout,
        "rules": sh("chroot", lab.image, "iptables-save").stdout,
        "mounts": "\n".join(line for line in mounts if "rocksalt-lab" not in line),
        "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "hostname": Path("/proc/sys/kernel/hostname").read_text(),
    }


def test_hosts_run_systemd_as_pid_1(cluster: dict[str, Host]) -> None:
    for host in cluster.values():
        assert host.read("/proc/1/comm") == "systemd\n"
        assert host.run("systemctl is-system-running").stdout == "running\n"
        assert host.failed_units == []
        assert host.run("hostname").stdout == f"{host.name}\n"
    ids = {host.read("/etc/machine-id") for host in cluster.values()}
    keys = {host.read("/etc/ssh/ssh_host_ed25519_key.pub") for host in cluster.values()}
    assert len(ids) == len(keys) == 3


def test_hosts_reach_each_other_and_nothing_else(web1: Host) -> None:
    web1.run("ping -c1 -W2 master && nc -zw2 master 22")
    assert web1.run("ip route show default").stdout == ""
    assert "unreachable" in web1.run("ping -c1 -W1 192.0.2.1", check=False).stderr


def test_the_administrator_logs_in_and_becomes_root(
    lab: Lab, master: Host, web1: Host, web2: Host
) -> None:
    assert "uid=0(root)" in lab.ssh(master, "ops", web1, "sudo -n id").stdout
    assert lab.ssh(web2, "ops", web1, "true").returncode == 255, "web2 has no key"
    assert lab.ssh(master, "root", web1, "true").returncode == 255, "root has no key"


def test_salt_works(master: Host, web1: Host) -> None:
    ping = master.run("salt --static --out=json '*' test.ping")
    assert '"web1": true' in ping.stdout and '"web2": true' in ping.stdout
    assert web1.salt_call("grains.get", "id").value == "web1"
    result = web1.salt_call("test.arg", 1, "two", local=True, three=[4])
    assert result.value["args"] == [1, "two"] and result.value["kwargs"]["three"] == [4]
    assert web1.salt_call("test.ping", local=True).retcode == 0
    assert web1.salt_call("cmd.run", "exit 3", local=True).retcode != 0


def test_the_repository_is_on_the_master(master: Host) -> None:
    assert master.read("/srv/rocksalt/tests/lab/test_lab.py") == Path(__file__).read_text()
    assert master.run("ls -A /srv/rocksalt").stdout.split().count(".git") == 0
    master.write("/srv/rocksalt/stray", "removed by the next copy\n")
    master.copy_repo()
    assert not master.testinfra.file("/srv/rocksalt/stray").exists


def test_testinfra_looks_at_hosts(master: Host, web1: Host) -> None:
    assert master.testinfra.service("salt-master").is_running
    assert web1.testinfra.file("/etc/sudoers.d/ops").mode == 0o440
    assert web1.testinfra.package("openssh-server").is_installed
    assert web1.testinfra.socket("tcp://0.0.0.0:22").is_listening


def test_commands_fail_and_time_out_clearly(web1: Host) -> None:
    with pytest.raises(LabError, match=r"web1: `echo why >&2; false` failed \(1\):\nwhy"):
        web1.run("echo why >&2; false")
    with pytest.raises(LabError, match="did not end within 1 s"):
        web1.run("sleep 61", timeout=1)
    assert web1.run("pgrep -fx 'sleep 61'", check=False).stdout == ""
    assert web1.run("cat", input="fed\n").stdout == "fed\n"
    assert web1.run(["printenv", "A"], env={"A": "b"}).stdout == "b\n"


def test_apt_works_offline(other: Host) -> None:
    update = other.run("apt-get update")
    assert "file:/srv/apt" in update.stdout and update.stderr == ""
    other.run("apt-get install -y hello && hello")
    other.run("apt-get purge -y --auto-remove openssh-server")
    assert not other.testinfra.package("openssh-server").is_installed
    other.run("apt-get install -y openssh-server")
    other.wait_for("nc -z 127.0.0.1 22")
    assert "trusted" not in other.run("grep -r . /etc/apt/sources.list*").stdout


def test_unsigned_packages_are_refused(other: Host) -> None:
    other.run("cp -a /srv/apt /srv/forged && echo >>/srv/forged/Packages")
    source = "deb [signed-by=/usr/share/keyrings/rocksalt-lab.gpg] file:/srv/forged ./\n"
    other.write("/etc/apt/sources.list.d/forged.list", source)
    assert other.run("apt-get update", check=False).returncode != 0
    other.run("rm -r /srv/forged /etc/apt/sources.list.d/forged.list; apt-get update")


def test_a_reboot_keeps_the_disk_and_nothing_else(other: Host) -> None:
    other.run("touch /root/kept /run/lost && iptables -A INPUT -p icmp -j DROP")
    before = other.init
    other.reboot()
    assert other.init != before
    assert other.run("ls /root/kept /run/lost", check=False).stdout == "/root/kept\n"
    assert "DROP" not in other.run("iptables-save").stdout
    assert other.failed_units == []
    other.stop()
    assert not other.running
    other.boot()
    other.run("test -e /root/kept")


def test_labs_with_equal_addresses_do_not_meet(lab: Lab, master: Host, other: Host) -> None:
    here, there = lab.hosts["web1"], other
    assert (here.name, here.ip) == (there.name, there.ip)
    here.write("/run/where", "here\n")
    assert there.run("cat /run/where", check=False).returncode == 1
    there.run("iptables -I INPUT -p tcp --dport 22 -j DROP")
    assert lab.ssh(master, "ops", here, "cat /run/where").stdout == "here\n"
    assert there.run("ping -c1 -W1 10.79.0.1", check=False).returncode != 0


def test_hosts_cannot_change_the_machine(lab: Lab) -> None:
    before = machine(lab)
    with Lab.start(release=lab.release, salt=lab.salt) as third:
        host = third.host("guest", "10.79.0.99")
        host.run("sysctl -w net.ipv4.ip_forward=1 && iptables -P INPUT DROP")
        host.run("hostname changed && mount -t tmpfs tmpfs /mnt")
        assert host.run("sysctl -w kernel.panic=99", check=False).returncode != 0
        assert machine(lab) == before
    assert machine(lab) == before
    assert traces(third.id) == []


def test_a_killed_run_is_removed_by_the_next(lab: Lab) -> None:
    id = f"killed-{os.getpid()}"
    code = (
        "import sys, rocksalt_lab as r\n"
        f"lab = r.Lab.start({id!r}, {lab.release!r}, {lab.salt!r})\n"
        "lab.host('doomed', '10.79.0.2').start('sleep 1000')\n"
        "print('ready'); sys.stdout.flush(); sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=HERE, **pipes) as run:
        assert any(line == "ready\n" for line in run.stdout)
        assert id not in sweep(), "its process lives"
        run.kill()
        run.wait()
    assert Lab.load(id).hosts["doomed"].running
    assert sweep() == [id]
    assert traces(id) == []


def test_an_interrupted_up_leaves_nothing(lab: Lab) -> None:
    id = f"cut-{os.getpid()}"
    words = ["-m", "rocksalt_lab", "up", f"--id={id}", f"--release={lab.release}"]
    command = [sys.executable, *words, f"--salt={lab.salt}"]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as run:
        assert any(line.startswith("lab: starting Salt") for line in run.stdout)
        run.send_signal(signal.SIGTERM)
        run.stdout.read()
    assert run.returncode == 130
    assert traces(id) == []


def test_a_kept_lab_stays_until_down(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    id = f"kept-{os.getpid()}"
    Lab.start(id, lab.release, lab.salt, keep=True).host("toy", "10.79.0.3")
    try:
        assert id not in sweep()
        assert main(["exec", f"--id={id}", "toy", "--", "cat", "/etc/hostname"]) == 0
        assert main(["exec", f"--id={id}", "toy", "--", "sh", "-c", "exit 7"]) == 7
        assert main(["status"]) == 0
        output = capfd.readouterr().out
        assert "toy\n" in output and f"{id}: {lab.release}" in output
        assert main(["exec", f"--id={id}", "nobody", "true"]) == 1
        assert "no host 'nobody', only toy." in capfd.readouterr().err
    finally:
        assert main(["down", f"--id={id}"]) == 0
    assert traces(id) == []
    assert main(["exec", f"--id={id}", "toy", "true"]) == 1
    assert f"There is no lab '{id}'" in capfd.readouterr().err


def test_what_is_missing_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(system.TOOLS, "no-such-tool", "its-package")
    assert main(["status"]) == 1
    assert capfd.readouterr().err.count("apt-get install --yes") == 1
    monkeypatch.delitem(system.TOOLS, "no-such-tool")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image, "NEEDED_BYTES", 2**60)
    assert main(["image"]) == 1
    assert "needs 6 GB free" in capfd.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["up"]) == 1
    assert "needs root; run it with sudo." in capfd.readouterr().err
    with pytest.raises(LabError, match=r"no image for 'debian-9'; choose one of debian-12"):
        image.ensure("debian-9")
