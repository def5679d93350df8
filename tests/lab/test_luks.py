"""Disks and customers' volumes on a machine with its own kernel: dm-crypt, reboots, power cuts.

One story: each test goes on where the one before ended. Most of what is asked of Salt is asked of
one process on the machine, for it takes long to start there.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import outside
import runs
import tampers
from rocksalt_lab import Host, Lab, LabError, Machine
from rocksalt_lab.host import Finished
from rocksalt_lab.lab import ANY_HOST_KEY
from traces import Traces

pytestmark = pytest.mark.vm

USER, PORT = "rocksalt-volumes", 8200
BY_ID, STATE, MODULES = (
    "/dev/disk/by-id/virtio-",
    "/var/lib/rocksalt/luks",
    "/var/cache/salt/minion",
)
DISKS, OPERATOR = "/root/disks", "/root/operator.key"
KEY = "the operator of the lab opens this" * 2
GOOD = "--type luks2 --cipher aes-xts-plain64 --key-size 512 --sector-size 4096"
CHEAP_KIB = 32  # of memory: what is right takes twelve seconds here, each time a disk is opened
COST = f"--pbkdf argon2id --pbkdf-memory {CHEAP_KIB} --pbkdf-parallel 1 --pbkdf-force-iterations 4"
CHEAP = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
VOLUMES = {
    "acme-data": ("acme", "fresh"),
    "acme-served": ("acme", "spare"),
    "globex-cut": ("globex", "weak"),
}
QUICK = {
    "autoload_dynamic_modules": False,  # they are there
    "mine_enabled": False,
    "grains_cache": True,
    "grains_cache_expiration": 86400,
}
MARKER = "only who has the key of the volume reads this"
OPEN_SECRET = "everybody who has the disk reads this"
EVERYTHING = ("var", "etc", "srv", "tmp", "run", "root", "home", "dev/shm")


class Customers:
    """Those whose volumes they are, at a computer of theirs with stock age and ssh."""

    def __init__(self, host: Host, machine: Machine) -> None:
        self.host, self.machine = host, machine
        self.keys: dict[str, bytes] = {}
        host.run(
            "apt-get update -q && apt-get install -y -q age && head -c 64 /dev/urandom >/root/other"
        )
        for name in ("acme", "globex", "operator"):
            new_key = f"ssh-keygen -q -t ed25519 -N '' -f /root/{name}"
            host.run(f"{new_key} && age-keygen -o /root/{name}.age")
        self.declared = {name: self._declared(name) for name in ("acme", "globex", "operator")}

    def _declared(self, name: str) -> dict[str, Any]:
        recipient = self.host.run(f"age-keygen -y /root/{name}.age").stdout.strip()
        key = self.host.read(f"/root/{name}.pub").strip()
        return {"recipients": [recipient], "ssh_keys": [key]}

    def line(self, customer: str, request: str) -> str:
        """The shell line that asks the machine for something."""
        key = ("-i", f"/root/{customer}", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes")
        return shlex.join(["ssh", *key, *ANY_HOST_KEY, f"{USER}@{self.machine.ip}", request])

    def ask(self, customer: str, request: str, given: str = "/dev/null") -> Finished:
        """What ssh said; the answer itself is in /root/answer."""
        line = f"{self.line(customer, request)} < {given} > /root/answer"
        return self.host.run(line, check=False, timeout=300)

    def do(self, customer: str, request: str, given: str = "/dev/null") -> str:
        """What was said about a request that succeeded."""
        done = self.ask(customer, request, given)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def unwrap(self, volume: str) -> str:
        """The file with the key that /root/answer has; beside it lies that, as FILE.age."""
        identity, file = f"/root/{VOLUMES[volume][0]}.age", f"/root/{volume}-{len(self.keys)}"
        self.host.run(f"cp /root/answer {file}.age && age -d -i {identity} -o {file} {file}.age")
        self.keys[file] = base64.b64decode(self.host.run(["base64", file]).stdout)
        assert len(self.keys[file]) == 64
        return file

    def seal(self, request: dict[str, str], file: str) -> str:
        """A key for whom the request is from, if that is the machine."""
        self.host.write("/root/request.json", json.dumps(request))
        key = shlex.quote(self.machine.read("/etc/ssh/ssh_host_ed25519_key.pub").strip())
        statement = json.loads(request["statement"])
        volume = statement["volume"]
        told = f"{volume} --identity /root/{VOLUMES[volume][0]}.age --request /root/request.json"
        told += f" --what {statement['what']} --host-key {key}"
        line = f"/root/rocksalt-luks seal {told} < {file}.age"
        return self.host.run(line).stdout.strip()


class Site:
    """The hosts, what the pillar says, and a process on the machine that runs Salt there."""

    def __init__(self, master: Host, machine: Machine, customers: Customers) -> None:
        self.master, self.machine, self.customers = master, machine, customers
        self.salt = runs.Asker(machine)
        self.said: list[str] = []

    def pillar(self, *volumes: str) -> None:
        """Declares these volumes, the key of one of which a key service has."""
        luks: dict[str, Any] = {
            "exempt": {"/": "the lab starts from it"},
            "sector_size": 4096,
            "argon2_memory": CHEAP_KIB,
        }
        if volumes:
            known = self.customers.declared
            luks |= {"customers": {name: known[name] for name in ("acme", "globex")}}
            luks |= {"volumes": {name: volume(name, *VOLUMES[name]) for name in volumes}}
            luks["volumes"]["acme-served"]["key_command"] = ["/usr/local/sbin/fetch-key"]
        off = {name: {"enabled": False} for name in tampers.families() if name != "luks"}
        operator = {"recipients": self.customers.declared["operator"]["recipients"]}
        off["backup"] |= operator
        runs.set_pillar(self.master, {**off, "luks": luks})
        self.salt.anew()

    def start(self) -> None:
        """What does not survive that the machine goes down."""
        self.salt.close()
        self.watch()
        self.salt = runs.Asker(self.machine)

    def watch(self) -> None:
        """Records what processes are given as arguments and in their environment."""
        watch = ["python3", "/root/watch.py", "/run/watched"]
        self.machine.run(["systemd-run", "--quiet", "--unit=watch", *watch])

    def apply(self, sls: str = "hardening.luks", **kwargs: Any) -> runs.Run:
        """A state run that succeeded."""
        run = runs.apply(self.salt, sls, **kwargs)
        self.said.append(repr(run))
        assert not run.failed
        return run

    def job(self, function: str, *arguments: str) -> Any:
        """What the machine answered to a job that the master published."""
        words = ["salt", "-t", "200", "--static", "--out=json", self.machine.name, function]
        done = self.master.run([*words, *arguments], check=False, timeout=300)
        self.said.append(done.stdout + done.stderr)
        return json.loads(done.stdout)[self.machine.name]

    def fetch(self, volume: str) -> str:
        """The file with the key of a volume, as its customer has it then."""
        wrapped = self.salt.salt_call("luks.wrapped", volume).value
        self.customers.host.run("base64 -d > /root/answer", input=wrapped)
        return self.customers.unwrap(volume)

    def sealed(self, volume: str, file: str, what: str = "open") -> str:
        """The key in a file, sealed for the machine and for one purpose."""
        request = self.salt.salt_call("luks.request", volume, what=what).value
        return self.customers.seal(request, file)

    def open(self, volume: str, file: str) -> None:
        """Opens a volume with the key in a file, sealed for the machine."""
        self.salt.salt_call("luks.open", volume, sealed=self.sealed(volume, file))

    def differing(self) -> dict[str, str]:
        """Control id -> reason, of what drifted in the family, but for the pillar of the lab."""
        found = runs.differing(self.salt, families="luks")
        if found.get("LUKS-012", "").startswith("hardening:luks:argon2_memory is"):
            del found["LUKS-012"]  # that alone; what is wrong on the machine would come first
        return found

    def keep(self) -> None:
        """All copies of headers are said to be kept elsewhere."""
        for uuid, copy in self.salt.salt_call("luks.copies").value.items():
            assert self.salt.salt_call("luks.kept", uuid, copy["sha256"], "elsewhere").value

    def collect(self) -> None:
        """Has the master fetch the copies of headers."""
        command = f"salt-run --out=json luks.collect {self.machine.name} timeout=200"
        done = self.master.run(command, check=False, timeout=300)
        assert json.loads(done.stdout)["problems"] == {}, done

    def encrypted(self) -> dict[str, str]:
        """What luks.status says of the encryption of each disk and mapping, by its name."""
        found = self.salt.salt_call("luks.status").value["devices"]
        links = self.salt.shell(f"for l in {BY_ID}*; do echo $(realpath $l) ${{l##*-}}; done")
        names = dict(map(str.split, links.splitlines()))
        return {
            names.get(path, path.rpartition("/")[2]): entry.get("encrypted", "")
            for path, entry in found.items()
        }

    def footprint(self) -> tuple[str, str]:
        """What a run could change: files and units, and an empty disk."""
        files = self.salt.shell(
            "find /etc /usr/local /srv /var/lib/rocksalt -xdev -not -path '*/settings-*.json'"
            " -not -path /var/lib/rocksalt -printf '%p %m %u %s %C@\n' | sort; systemctl"
            " list-units --all --plain --no-legend 'ssh*' 'rocksalt-*.socket' 'rocksalt-*.timer'"
        )
        return files, self.disk("fresh")

    def disk(self, name: str) -> str:
        """The hash of all that is on a disk, seen from outside."""
        self.machine.run("sync")
        return hashlib.sha256(self.machine.disk(name).read_bytes()).hexdigest()


def volume(name: str, customer: str, disk: str) -> dict[str, Any]:
    """A volume as the pillar declares it."""
    return {
        "customer": customer, "device": f"{BY_ID}{disk}", "confirm": f"virtio-{disk}",
        "mount": f"/srv/{name}",
    }  # fmt: skip


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, lab: Lab, master: Host, web1: Host, machine: Machine
) -> Iterator[Site]:
    before = master.read(runs.PILLAR)
    master.run("salt-run saltutil.sync_all")
    bring_modules(web1, machine)
    with ThreadPoolExecutor() as pool:  # the machine has two processors
        customers = pool.submit(prepared, lab, machine)
        request.getfixturevalue("vm_minion")  # it finds the modules when it starts
    found = Site(master, machine, customers.result())
    yield found
    found.salt.salt_call("luks.clean")
    found.salt.close()
    master.write(runs.PILLAR, before)
    clean(machine)


def prepared(lab: Lab, machine: Machine) -> Customers:
    """Everything that is there before the first look at the machine's disks."""
    folder = tampers.FOLDER.parent / "on_host"
    machine.write(DISKS, (folder / "disks.sh").read_text(), mode="0755")
    machine.write("/root/watch.py", (folder / "watch.py").read_text())
    machine.write(OPERATOR, KEY, mode="0400")
    machine.run(
        "printf 'tmpfs /tmp tmpfs nosuid,nodev,mode=1777\\ntmpfs /var/tmp tmpfs nosuid,nodev\\n'"
        ">>/etc/fstab; systemctl daemon-reload; mount /tmp; mount /var/tmp"
    )
    make_disks(machine)
    return Customers(lab.host("customers", "10.79.0.61"), machine)


def clean(machine: Machine) -> None:
    """Nothing is left on the disks, and nothing that runs."""
    machine.run(
        "systemctl stop watch; umount /srv/acme-* /srv/lvm; vgchange -q -an lvm; swapoff -a;"
        "for name in $(dmsetup ls --target crypt | cut -f1); do cryptsetup close $name; done;"
        f"for disk in {' '.join(machine.disks)}; do {DISKS} wipe $disk; done;"
        f"rm -rf {STATE}; systemctl reset-failed",
        check=False,
    )


def bring_modules(web1: Host, machine: Machine) -> None:
    """Syncs the modules on a host that is faster at that, and compiles them, too."""
    web1.salt_call("saltutil.sync_all")
    web1.run([runs.PYTHON, "-m", "compileall", "-q", f"{MODULES}/extmods"])
    machine.write("/etc/salt/minion.d/quick.conf", json.dumps(QUICK))
    machine.run(["mkdir", "-p", MODULES])
    pack = web1.argv(["tar", "-C", MODULES, "-cf", "-", "extmods"])
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
        unpack = machine.argv(["tar", "-C", MODULES, "-xf", "-"])
        subprocess.run(unpack, stdin=tar.stdout, check=True)


def make_disks(machine: Machine) -> None:
    """What the machine finds on its disks. Headers are made from outside, where it takes less."""
    made = {
        "luks1": f"--type luks1 --key-size 512 {CHEAP}",
        "weak": f"--type luks2 --cipher aes-cbc-essiv:sha256 --key-size 256 {CHEAP}",
        "good": f"{GOOD} {COST}",
        "lvm": f"{GOOD} {COST}",
    }
    for name, options in made.items():
        command = ["cryptsetup", "luksFormat", "-q", *options.split(), machine.disk(name), "-"]
        subprocess.run(command, input=KEY.encode(), check=True)
    machine.run(
        f"set -e; blockdev --flushbufs {BY_ID}*; udevadm trigger --settle --subsystem-match=block;"
        f"{DISKS} open lvm; pvcreate -q /dev/mapper/lvm; vgcreate -q lvm /dev/mapper/lvm;"
        "lvcreate -q -y -n data -l 100%FREE lvm; mkfs.ext4 -q /dev/lvm/data; mkdir /srv/lvm;"
        f"mount /dev/lvm/data /srv/lvm; mkswap -q {BY_ID}swap; swapon {BY_ID}swap;"
        "cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file "
        f"{OPERATOR} {BY_ID}plain bare;"
        f"mkfs.ext4 -q {BY_ID}dirty; mount {BY_ID}dirty /mnt; echo '{OPEN_SECRET}' >/mnt/file"
    )


# The disks of the operator ------------------------------------------------------------------------


def test_every_disk_is_told_for_what_it_is(site: Site) -> None:
    site.pillar()
    told = site.encrypted()
    assert told["root"] == told["swap"] == told["dirty"] == "no"
    assert told["fresh"] == told["spare"] == ""
    assert told["luks1"] == "LUKS1 aes-xts-plain64 512 bits, 1 key slot (pbkdf2), closed"
    assert told["weak"] == "LUKS2 aes-cbc-essiv:sha256 256 bits, 1 key slot (pbkdf2), closed"
    good = "LUKS2 aes-xts-plain64 512 bits, 1 key slot (argon2id)"
    assert told["good"] == f"{good}, closed" and told["lvm"] == f"{good}, open as lvm"
    assert told["lvm-data"].startswith("yes")
    assert "PLAIN" in told["bare"]

    found = site.differing()
    number = "LUKS-{:03d}".format
    assert set(found) == set(map(number, (1, 2, 10, 11, 12, 13, 17, 30)))
    assert "/mnt (ext4 on /dev/vd" in found["LUKS-001"] and "64.0 MiB" in found["LUKS-001"]
    assert "swap" in found["LUKS-002"]
    assert "LUKS1" in found["LUKS-010"] and "aes-cbc-essiv:sha256" in found["LUKS-011"]
    assert "pbkdf2" in found["LUKS-012"] and "512 bytes" in found["LUKS-013"]
    assert "bare is open as plain dm-crypt" in found["LUKS-017"]


def test_once_the_bad_ones_are_gone_and_headers_are_copied_nothing_drifts(site: Site) -> None:
    site.salt.shell(
        f"umount /mnt; swapoff {BY_ID}swap; cryptsetup close bare;"
        f"for name in luks1 weak swap plain; do {DISKS} wipe $name; done"
    )
    assert set(site.differing()) == {"LUKS-030"}
    site.salt.salt_call("luks.enforce", ["LUKS-030"])
    assert set(site.differing()) == {"LUKS-031"}
    site.collect()
    assert site.differing() == {}


# Volumes of customers -----------------------------------------------------------------------------


def test_only_empty_disks_become_volumes(site: Site) -> None:
    """What is on the others is told, and stays. Test mode says the same."""
    names = ("good", "lvm", "dirty", "missing")
    disks = {name: site.disk(name) for name in names[:-1]}
    luks = {
        "customers": {"acme": site.customers.declared["acme"]},
        "volumes": {f"on-{name}": volume(f"on-{name}", "acme", name) for name in names},
    }
    run = runs.apply(site.salt, "hardening.luks", pillar={"hardening": {"luks": luks}})
    said = " ".join(run.failed.values())
    assert "LUKS-040" in said and "LUKS-046" not in said
    assert f"{BY_ID}good has a header of LUKS that is no volume" in said
    assert "ext4" in said and f"{BY_ID}missing does not exist" in said
    assert {name: site.disk(name) for name in disks} == disks
    assert site.machine.run(f"ls {STATE}/*.journal", check=False).returncode


def test_settings_that_make_no_sense_change_nothing(site: Site) -> None:
    customers = {
        "acme": site.customers.declared["acme"],
        "odd": {"recipients": ["age1" + "q" * 58]},
    }
    twins = {name: volume(name, "acme", "fresh") for name in ("one", "two")}
    luks = {"customers": customers, "volumes": twins}
    before = site.footprint()
    with pytest.raises(AssertionError, match="did not render") as refused:
        runs.apply(site.salt, "hardening.luks", pillar={"hardening": {"luks": luks}})
    assert "is the same as that of the volume one" in str(refused.value)
    assert "customers:odd:recipients" in str(refused.value)
    assert site.footprint() == before


def test_test_mode_shows_what_would_be_made_and_makes_nothing(site: Site) -> None:
    site.pillar(*VOLUMES)
    before = site.footprint()
    run = runs.apply(site.salt, "hardening.luks", test=True)
    assert not run.failed
    assert {"LUKS-040", "LUKS-046"} <= run.controls
    assert "is not made yet" in repr(run.changes)
    assert site.footprint() == before


def test_a_highstate_makes_volumes_that_stay_closed(site: Site) -> None:
    """The key service of one has its key only once the customer could read that."""
    events = "systemd-run --quiet --unit=events sh -c 'exec salt-run state.event > /root/events'"
    site.master.run(f"systemctl stop events; {events}")
    site.watch()
    dirty = site.disk("dirty")
    run = runs.apply(site.salt)
    assert {"LUKS-030", "LUKS-040", "LUKS-046"} <= run.controls
    said = " ".join(run.failed.values())
    assert "LUKS-044" in said and "fetch-key: cannot be run" in said
    told = site.salt.salt_call("luks.status").value["volumes"]
    assert {name: told[name]["state"] for name in VOLUMES} == dict.fromkeys(VOLUMES, "closed")
    assert set(site.differing()) == {"LUKS-031", "LUKS-044"}
    assert site.disk("dirty") == dirty


def test_a_customer_opens_a_volume_by_ssh(site: Site) -> None:
    acme, machine = site.customers, site.machine
    acme.do("acme", "wrapped acme-data")
    key = acme.unwrap("acme-data")
    said = acme.do("acme", "open acme-data", key)
    assert "was opened" in said and "file system (ext4) was made" in said
    machine.write("/srv/acme-data/file", MARKER)
    assert "root:root 750" in machine.run("stat -c '%U:%G %a' /srv/acme-data").stdout
    assert "nosuid,nodev" in machine.run("findmnt -no options /srv/acme-data").stdout


def test_nobody_else_opens_it(site: Site) -> None:
    site.salt.salt_call("luks.close", "acme-data")
    refusals = {"acme": "does not open the volume acme-data", "globex": "no volume of that name"}
    with ThreadPoolExecutor() as pool:
        ask = site.customers.ask
        asked = {who: pool.submit(ask, who, "open acme-data", "/root/other") for who in refusals}
    for who, words in refusals.items():
        done = asked[who].result()
        assert done.returncode and words in done.stderr, (who, done)
    assert site.machine.run("test -e /dev/mapper/acme-data", check=False).returncode


def test_the_key_comes_through_salt_for_this_host_alone(site: Site) -> None:
    """The argument of the job is encrypted to a one-time key, which is used up then."""
    (key,) = site.customers.keys
    program = site.machine.run("base64 /usr/local/sbin/rocksalt-luks").stdout
    install = "base64 -d > /root/rocksalt-luks && chmod +x /root/rocksalt-luks"
    site.customers.host.run(install, input=program)
    site.job("saltutil.refresh_pillar", "wait=True")
    sealed = site.customers.seal(site.job("luks.request", "acme-data"), key)
    assert "was opened" in site.job("luks.open", "acme-data", f"sealed={sealed}")[0]
    assert site.machine.read("/srv/acme-data/file") == MARKER
    with pytest.raises(LabError, match="each can be used once"):
        site.salt.salt_call("luks.open", "acme-data", sealed=sealed)
    sealed = site.sealed("acme-data", key)
    onetime = "/run/rocksalt/luks/onetime/acme-data.json"
    site.salt.shell(f'sed -i \'s/"expires": "20../"expires": "2020/\' {onetime}')
    with pytest.raises(LabError, match="has expired"):
        site.salt.salt_call("luks.open", "acme-data", sealed=sealed)


def test_a_key_of_the_operators_is_seen_and_a_new_key_of_the_customers_ends_it(site: Site) -> None:
    acme, machine = site.customers, site.machine
    (old,) = acme.keys
    add = f"cryptsetup luksAddKey -q --key-file <(base64 -d) {CHEAP} {BY_ID}fresh {OPERATOR}"
    machine.run(add, input=base64.b64encode(acme.keys[old]).decode())
    found = site.differing()
    assert "key slot 1 has a key that is not the customer's" in found["LUKS-041"]
    assert {*found} - {"LUKS-031", "LUKS-044"} == {"LUKS-012", "LUKS-030", "LUKS-041"}
    said = acme.do("acme", "expel acme-data", old)
    assert "key slot 1, which was not the customer's, was removed" in said
    assert "a copy of the header that was made before" in said
    new = acme.unwrap("acme-data")
    assert acme.keys[new] != acme.keys[old]
    site.salt.salt_call("luks.close", "acme-data")
    with pytest.raises(LabError, match="does not open the volume"):
        site.salt.salt_call("luks.open", "acme-data", sealed=site.sealed("acme-data", old))
    site.open("acme-data", new)
    assert machine.read("/srv/acme-data/file") == MARKER


def test_a_volume_is_encrypted_anew_while_it_is_open(site: Site) -> None:
    *_, key = site.customers.keys
    before = site.disk("fresh")
    sealed = site.sealed("acme-data", key, "reencrypt")
    said = site.salt.salt_call("luks.reencrypt", "acme-data", sealed=sealed).value
    assert "was encrypted anew" in " ".join(said)
    assert site.machine.read("/srv/acme-data/file") == MARKER
    assert site.disk("fresh") != before


def test_a_key_service_opens_a_volume(site: Site) -> None:
    host, machine = site.customers.host, site.machine
    key = site.fetch("acme-served")
    serve = f"while true; do nc -lN {PORT} < {key}; done"
    host.run(["systemd-run", "--quiet", "--unit=keys", "sh", "-c", serve])
    machine.write("/usr/local/sbin/fetch-key", f"#!/bin/sh\nexec nc -d {host.ip} {PORT}\n", "0755")
    assert site.apply().controls >= {"LUKS-044"}
    machine.write("/srv/acme-served/file", MARKER)
    site.keep()
    assert site.differing() == {}


# Broken on purpose --------------------------------------------------------------------------------


def together(cases: list[tampers.Case]) -> list[list[tampers.Case]]:
    """Cases that can be told apart although the machine is broken in all these ways at once: no
    control and no thing belongs to two of them. To look once takes seconds here.
    """
    found: list[list[tampers.Case]] = []
    for case in cases:
        apart = [it for it in found if not any(_meet(case, other) for other in it)]
        if apart:
            apart[0].append(case)
        else:
            found.append([case])
    return found


def _meet(one: tampers.Case, other: tampers.Case) -> bool:
    return bool(one.drifts & other.drifts or _things(one) & _things(other))


def _things(case: tampers.Case) -> set[str]:
    text = f"{case.command} {case.undo}"
    return set(re.findall(r"(?:virtio-|disks [a-z-]+ )([a-z0-9]+)|(crypttab|disks kept)", text))


def test_every_case_is_seen_exactly(site: Site) -> None:
    site.salt.shell(f"{DISKS} save good lvm weak; {DISKS} keep")
    wrong = {}
    for cases in together(tampers.cases("luks")):
        for case in cases:
            site.salt.shell(case.command)
        found = site.differing()
        for case in reversed(cases):
            site.salt.shell(case.undo)
        if set(found) != set().union(*(case.drifts for case in cases)):
            wrong[", ".join(case.name for case in cases)] = found
    assert not wrong
    assert site.differing() == {}, "the machine was not put back"


def test_the_suite_for_users_sees_it_as_well(site: Site, tmp_path: Path) -> None:
    """By a pillar that wants keys to cost what is right; those of the lab are cheap."""
    tree = json.loads(site.master.read(runs.PILLAR))
    del tree["hardening"]["luks"]["argon2_memory"]
    pillar = tmp_path / "pillar.json"
    pillar.write_text(json.dumps(tree))

    def judged() -> dict[str, str]:
        found = outside.judged(site.machine, ["luks"], [f"--pillar={pillar}"])
        assert "passed" in found.values()
        return outside.failed(found)

    cheap = set(outside.STRICTER)
    assert {*judged()} == cheap
    for cases, tests in outside.rounds("luks"):
        for case in cases:
            site.salt.shell(case.command)
        found = judged()
        for case in reversed(cases):
            site.salt.shell(case.undo)
        assert {*found} == tests | cheap, found
    assert site.differing() == {}, "the machine was not put back"


def test_one_run_heals_what_a_state_can(site: Site) -> None:
    cases = [it for it in tampers.cases("luks") if not it.needs_a_person]
    for case in cases:
        site.salt.shell(case.command)
    assert set(site.differing()) >= set().union(*(case.drifts for case in cases))
    assert site.apply().controls >= set().union(*(case.healed for case in cases))
    site.keep()
    assert site.differing() == {}
    before = site.footprint()
    assert not site.apply().changes
    assert site.footprint() == before


# Down and up again --------------------------------------------------------------------------------


def test_after_a_reboot_volumes_are_closed_but_for_those_of_a_key_service(site: Site) -> None:
    site.machine.reboot()
    site.start()
    site.machine.wait_for("mountpoint /srv/acme-served", timeout=300)
    assert site.machine.read("/srv/acme-served/file") == MARKER
    told = site.salt.salt_call("luks.status").value["volumes"]
    assert {name: told[name]["state"] for name in VOLUMES} == {
        "acme-data": "closed", "acme-served": "open", "globex-cut": "closed",
    }  # fmt: skip
    assert not site.machine.run("ls -A /srv/acme-data").stdout
    assert site.differing() == {}


def test_a_power_cut_leaves_nothing_half_done(site: Site) -> None:
    """In the middle of the making of a volume and of the rotation of another one's key."""
    machine, acme = site.machine, site.customers
    old = [file for file in acme.keys if file.startswith("/root/acme-data")][-1]
    for _ in range(3):  # the making may be over before it is caught
        site.salt.shell(f"{DISKS} wipe weak")
        site.salt.salt_call("luks.forget", "globex-cut")
        making = threading.Thread(target=_make, args=(site,))
        making.start()
        if _stopped(machine, "globex-cut", "weak", limit=180):
            break
        making.join()
    else:
        pytest.fail("a volume is not made, or too fast")
    rotation = acme.host.start(f"{acme.line('acme', 'rotate acme-data')} < {old} > /root/cut")
    assert _stopped(machine, "acme-data", "fresh")
    machine.kill()
    making.join()
    rotation.kill()
    rotation.wait()
    _forget(machine.disk("weak"))

    machine.boot()
    site.start()
    machine.wait_for("mountpoint /srv/acme-served", timeout=300)
    assert {"LUKS-040", "LUKS-043"} <= set(site.differing())
    site.apply()
    site.keep()
    assert site.differing() == {}
    assert not machine.run(f"ls {STATE}/*.journal", check=False).stdout
    for name in ("acme-data", "globex-cut"):
        site.open(name, site.fetch(name))
    assert machine.read("/srv/acme-data/file") == MARKER


def _stopped(machine: Machine, volume: str, disk: str, limit: int = 390) -> bool:
    """Whether cryptsetup was stopped in the middle of what the journal of a volume tells."""
    path = machine.run(f"realpath {BY_ID}{disk}").stdout.strip()
    begun, late = f"test -e {STATE}/{volume}.journal", f"[[ $SECONDS -lt {limit} ]] || exit 0"
    caught = f"pkill -STOP -f '^cryptsetup.*{path}'"
    wait = f"until {begun}; do sleep 0.01; {late}; done; until {caught}; do {late}; done"
    return machine.run(f"{wait}; echo caught", timeout=limit + 10).stdout == "caught\n"


def _make(site: Site) -> None:
    with contextlib.suppress(LabError, OSError):  # the machine goes down meanwhile
        site.salt.salt_call("luks.enforce", ["LUKS-040"])


def _forget(disk: Path) -> None:
    """As if a part of what was written last had not reached the disk."""
    with disk.open("r+b") as file:
        for at in (0x1000, 0x4000):
            file.seek(at)
            assert any(file.read(4096))
            file.seek(at)
            file.write(bytes(4096))


# What is left of it all ---------------------------------------------------------------------------


def test_no_key_is_written_anywhere(site: Site) -> None:
    """The customers' own computer has them, and the kernel's memory while a volume is open."""
    machine, master = site.machine, site.master
    machine.run("sync; journalctl --sync")
    traces = Traces(site.customers.keys)
    traces.in_folders(machine, ("run", "tmp", "var/tmp", "dev/shm", "proc/keys"))
    traces.in_folders(master, EVERYTHING, without=("srv/apt",))
    traces.look("what Salt said", [text.encode() for text in site.said])
    folder = machine.disk("fresh").parent
    for path in (*folder.glob("*.img"), *folder.glob("*.qcow2")):
        traces.in_disk(path)
    assert traces.found == set()
    assert len(site.customers.keys) >= 5
    assert not machine.run("swapon --show").stdout


def test_the_search_would_have_found_them(site: Site) -> None:
    """What is no secret is found wherever it was written, and the marker where it lies open."""
    machine, master = site.machine, site.master
    sealed = next(said for said in site.said if "BEGIN" in said or "statement" in said)
    events = master.read("/root/events")
    assert "luks.open" in events and "sealed" in events and sealed
    assert "cryptsetup" in machine.run("tr '\\0' ' ' < /run/watched").stdout
    machine.run(f"echo {MARKER[::-1]} > /root/written && sync")
    folder = machine.disk("fresh").parent
    known = {"marker": MARKER, "open": OPEN_SECRET, "written": MARKER[::-1]}
    traces = Traces({name: text.encode() for name, text in known.items()})
    for path in (*folder.glob("*.img"), *folder.glob("*.qcow2")):
        traces.in_disk(path)
    raw = {it for it in traces.found if it.endswith("raw")}
    assert raw == {"dirty.img: open, raw", "root.qcow2: written, raw"}
