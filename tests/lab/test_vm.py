"""Lab hosts that are virtual machines: what takes a kernel of its own; and none is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rocksalt_lab import Host, Lab, LabError, Machine
from rocksalt_lab.host import occupied
from rocksalt_lab.lab import sweep
from rocksalt_lab.system import RUN, cache

pytestmark = pytest.mark.vm

HERE = Path(__file__).parent
BY_ID = "/dev/disk/by-id/virtio-"
QUICK = "--batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000"
KEY = "a key of the tests"
PING = "salt --static --out=json --timeout=60 vm1 test.ping"
SECRET = "nobody but who has the key reads this"


@pytest.fixture
def zeroed(machine: Machine) -> Iterator[Machine]:
    """The machine, whose disks `spare` and `plain` are empty again afterwards."""
    yield machine
    for name in ("spare", "plain"):
        machine.run(f"blkdiscard --force --zeroout {BY_ID}{name}")


def test_it_runs_systemd_on_a_kernel_of_its_own(machine: Machine) -> None:
    assert machine.read("/proc/1/comm") == "systemd\n"
    assert machine.run("uname -r").stdout.strip() != os.uname().release
    assert machine.run("systemctl is-system-running").stdout == "running\n"
    assert machine.failed_units == []
    assert "No jobs" in machine.run("systemctl list-jobs").stdout
    assert machine.run("hostname").stdout == "vm1\n"
    machine.run("sysctl -w kernel.panic=99")


def test_its_clock_is_right(machine: Machine) -> None:
    before = time.time()
    inside = float(machine.run("date +%s.%N").stdout)
    assert before - 2 < inside < time.time() + 2


def test_disks_have_names_that_stay(machine: Machine) -> None:
    names = {f"{BY_ID}{name}" for name in ("root", *machine.disks)}
    assert set(machine.run(f"ls {BY_ID}*").stdout.split()) == names
    for name, size in machine.disks.items():
        found = machine.run(f"blockdev --getsize64 {BY_ID}{name}").stdout
        assert f"{int(found) // 1024**2}M" == size
        assert machine.disk(name).stat().st_size == int(found)
    with pytest.raises(LabError, match="vm1 has no disk 'nonsense', only fresh, spare"):
        machine.disk("nonsense")


def test_commands_work_as_in_containers(machine: Machine) -> None:
    done = machine.run("cat; echo why >&2; exit 7", check=False, input="fed \N{SNOWMAN}\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "fed \N{SNOWMAN}\n", "why\n")
    with pytest.raises(LabError, match=r"vm1: `echo why >&2; false` failed \(1\):\nwhy"):
        machine.run("echo why >&2; false")
    with pytest.raises(LabError, match="did not end within 1 s"):
        machine.run("sleep 61", timeout=1)
    assert machine.run(["printenv", "A"], env={"A": "b"}).stdout == "b\n"
    assert machine.run(["/no/such/program"], check=False).returncode == 127
    assert machine.run("cat /proc/self/cgroup").stdout == "0::/init.scope\n"
    assert machine.testinfra.service("ssh").is_running


def test_much_goes_in_and_out(machine: Machine) -> None:
    text = "".join(f"{number:>99}\n" for number in range(30_000))
    assert machine.run("cat", input=text).stdout == text
    assert machine.run("true", input=text).returncode == 0, "a command need not read its input"


def test_more_commands_than_ports_at_the_same_time(machine: Machine) -> None:
    with ThreadPoolExecutor(9) as pool:
        done = pool.map(lambda n: machine.run(f"sleep 1; echo {n}").stdout, range(9))
        assert list(done) == [f"{number}\n" for number in range(9)]


def test_a_command_ends_with_who_called_it(machine: Machine) -> None:
    with machine.start("echo begun; sleep 62", stdout=subprocess.PIPE) as caller:
        assert caller.stdout.readline() == "begun\n"
        caller.terminate()
    machine.wait_for("! pgrep -fx 'sleep 62'")


def test_a_volume_survives_a_power_cut_and_cannot_be_read_from_outside(zeroed: Machine) -> None:
    spare, machine = f"{BY_ID}spare", zeroed
    machine.run(f"dd of={BY_ID}plain conv=fsync status=none", input=SECRET)
    machine.run(f"cryptsetup luksFormat {QUICK} {spare} -", input=KEY)
    machine.run(f"cryptsetup open --key-file - {spare} vault", input=KEY)
    assert " crypt aes-xts-plain64 " in machine.run("dmsetup table vault").stdout
    machine.run("mkfs.ext4 -q /dev/mapper/vault && mount /dev/mapper/vault /mnt")
    machine.run("cat >/mnt/secret && sync", input=SECRET)

    machine.kill()
    assert not machine.running
    assert SECRET.encode() in machine.disk("plain").read_bytes(), "it can be seen where it is plain"
    assert machine.disk("spare").read_bytes().startswith(b"LUKS\xba\xbe")
    assert SECRET.encode() not in machine.disk("spare").read_bytes()

    machine.boot()
    assert machine.failed_units == []
    wrong = machine.run(f"cryptsetup open --key-file - {spare} vault", False, input="wrong")
    assert wrong.returncode == 2
    machine.run(f"cryptsetup open --key-file - {spare} vault", input=KEY)
    machine.run("mount /dev/mapper/vault /mnt")
    assert machine.read("/mnt/secret") == SECRET
    machine.run("umount /mnt && cryptsetup close vault")


def test_it_is_a_host_of_the_lab(lab: Lab, master: Host, vm_minion: Machine) -> None:
    assert "uid=0(root)" in lab.ssh(master, "ops", vm_minion, "sudo -n id").stdout
    vm_minion.run("ping -c1 -W5 master && nc -zw5 master 4505")
    assert '"vm1": true' in master.run(PING).stdout
    assert vm_minion.salt_call("grains.get", "id").value == "vm1"


def test_no_machine_outlives_a_killed_run(lab: Lab) -> None:
    id = f"cut-{os.getpid()}"
    start = f"Lab.start({id!r}, {lab.release!r}, {lab.salt!r})"
    code = f"from rocksalt_lab import Lab; {start}.machine('doomed', '10.79.0.2')"
    with subprocess.Popen([sys.executable, "-c", code], cwd=HERE) as run:
        cgroup = lab.cgroup.parent / f"rocksalt-lab-{id}/doomed"
        wait_until(lambda: occupied(cgroup))
        run.kill()
    wait_until(lambda: not occupied(cgroup))
    assert sweep() == [id]
    assert not (RUN / id).exists() and not (cache() / "disks" / id).exists()
    processes = Path("/proc").glob("[0-9]*/cmdline")
    assert not [path for path in processes if id.encode() in contents(path)]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # ended meanwhile
