"""One lab run: its hosts, its network, its key, and the promise to leave nothing behind."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from . import image, network
from .container import Container
from .host import Finished, Host, kill_cgroup, occupied
from .system import (
    MACHINE_TOOLS,
    RUN,
    LabError,
    cache,
    ensure_tools,
    locked,
    remove_tree,
    sh,
    start_time,
    step,
)
from .vm import Machine

MASTER_IP = "10.79.0.1"
NETWORKS = {"management": [f"{MASTER_IP}/32"]}
ADMINISTRATOR = "ops"
KEY = "/root/.ssh/id_ed25519"
ANY_HOST_KEY = (
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"),
    *("-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5"),
)
T = TypeVar("T")


class Lab:
    """A lab run. State lives in /run/rocksalt-lab/<id>, disks in the cache folder.

    A run belongs to the process that started it and ends with it, unless it is kept.
    """

    def __init__(self, id: str, release: str, salt: str, image: Path, disk: Path) -> None:
        self.id, self.release, self.salt, self.image, self.disk = id, release, salt, image, disk
        self.state = RUN / id
        self.switch = self.state / "switch"
        self.cgroup = cgroup_roots("cgroup2")[0] / f"rocksalt-lab-{id}"
        self.hosts: dict[str, Host] = {}
        self.public_key = ""
        self.owner = 0
        self.owner_start: str | None = None

    @classmethod
    def start(
        cls,
        id: str | None = None,
        release: str = "debian-12",
        salt: str = "3008",
        keep: bool = False,
    ) -> Lab:
        """Start an empty lab: sweep away what dead runs left, get the image, make the network.

        `keep`: the lab outlives this process and only `stop` (or `down`) ends it.
        """
        ensure_tools()
        sweep()
        root = image.ensure(release, salt)
        id = id or uuid.uuid4().hex[:6]
        lab = cls(id, release, salt, root, cache() / "disks" / id)
        if not keep:
            lab.owner, lab.owner_start = os.getpid(), start_time(os.getpid())
        with locked(RUN / "lock"):
            if lab.state.exists():
                raise LabError(f"A lab named {id!r} exists; choose another name or take it down.")
            lab.state.mkdir(parents=True)
            lab._save()
        atexit.register(lab._stop_if_owner)
        lab.disk.mkdir(parents=True)
        sh(
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            f"lab-{id}",
            "-f",
            lab.state / "key",
        )
        lab.public_key = (lab.state / "key.pub").read_text()
        network.make_switch(lab.switch)
        return lab

    @classmethod
    def load(cls, id: str) -> Lab:
        """A lab that another process started."""
        try:
            data = json.loads((RUN / id / "lab.json").read_text())
        except OSError:
            raise LabError(
                f"There is no lab {id!r}: `scripts/lab up` starts one, `scripts/lab status` lists "
                "those there are."
            ) from None
        lab = cls(id, data["release"], data["salt"], Path(data["image"]), Path(data["disk"]))
        lab.owner, lab.owner_start = data["owner"], data["owner_start"]
        for name, ip in data["hosts"].items():
            lab.hosts[name] = Container(lab, name, ip)
        for name, made in data["machines"].items():
            lab.hosts[name] = Machine(lab, name, made["ip"], made["disks"])
        key = lab.state / "key.pub"
        lab.public_key = key.read_text() if key.exists() else ""
        return lab

    def _save(self) -> None:
        """Write the state file; a reader sees the old or the new one, never half of it."""
        data = {
            "id": self.id,
            "release": self.release,
            "salt": self.salt,
            "owner": self.owner,
            "owner_start": self.owner_start,
            "image": str(self.image),
            "disk": str(self.disk),
            "hosts": {h.name: h.ip for h in self.hosts.values() if isinstance(h, Container)},
            "machines": {
                host.name: {"ip": host.ip, "disks": host.disks}
                for host in self.hosts.values()
                if isinstance(host, Machine)
            },
        }
        new = self.state / "lab.json.new"
        new.write_text(json.dumps(data, indent=2))
        new.rename(self.state / "lab.json")

    @property
    def pillar(self) -> dict[str, Any]:
        """What the baseline has to be told of this lab: where management is, who administers its
        hosts, and that nobody watches them, receives their logs or has rights on their master.
        """
        people = {ADMINISTRATOR: {"keys": [self.public_key.strip()], "nopasswd": True}}
        unwatched = {
            family: {"controls": {control: {"off": "nobody watches hosts of the lab"}}}
            for family, control in (
                ("nrpe", "NRPE-001"),
                ("ossec", "OSS-001"),
                ("logstash", "LOG-001"),
                ("access", "ACL-001"),
            )
        }
        return {"networks": NETWORKS, "accounts": {"administrators": people}, **unwatched}

    @property
    def abandoned(self) -> bool:
        """Whether the process that this run belongs to has ended without cleaning up."""
        return bool(self.owner) and start_time(self.owner) != self.owner_start

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _stop_if_owner(self) -> None:
        if self.owner == os.getpid() and self.state.exists():
            self.stop()

    def stop(self) -> None:
        """End every host and remove all of this run: processes, mounts, namespaces, disks."""
        remove(self.id, self.disk)

    # -- hosts ----------------------------------------------------------------------------------

    def host(
        self, name: str, ip: str, image: Path | None = None, options: Sequence[str] = ()
    ) -> Container:
        """Make a host and boot it; image and options as in `Container`."""
        host = Container(self, name, ip, image, options)
        self._boot([host])
        return host

    def boot(self, hosts: dict[str, str]) -> list[Container]:
        """Make hosts (name -> address) and boot them at the same time."""
        new = [Container(self, name, ip) for name, ip in hosts.items()]
        self._boot(new)
        return new

    def machine(self, name: str, ip: str, disks: Mapping[str, str] | None = None) -> Machine:
        """Make a host that is a virtual machine with a kernel of its own, and boot it.

        Its disks (name -> size, as in {"fresh": "64M"}) are empty: /dev/disk/by-id/virtio-fresh.
        """
        ensure_tools(tools=MACHINE_TOOLS)
        machine = Machine(self, name, ip, disks or {})
        self._boot([machine])
        return machine

    def _boot(self, new: Sequence[Host]) -> None:
        """Boot new hosts at the same time and make them known to the others."""
        names = [host.name for host in new]
        if taken := sorted(set(names) & set(self.hosts)):
            raise LabError(f"Host {taken[0]!r} exists in this lab; choose another name.")
        others = list(self.hosts.values())
        self.hosts |= {host.name: host for host in new}
        self._save()
        with step(f"booting {', '.join(names)}"):
            in_parallel(lambda host: host.boot(), new)
        for host in others:
            if host.running:
                host.write("/etc/hosts", self.hosts_file())
        for host in new:
            if host.failed_units:
                print(f"lab: {host.name} is degraded: {', '.join(host.failed_units)}", flush=True)

    def hosts_file(self) -> str:
        """/etc/hosts with every host of the lab."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        lines += [f"{host.ip} {host.name}" for host in self.hosts.values()]
        return "\n".join(lines) + "\n"

    def ssh(
        self,
        from_host: Host,
        user: str,
        to_host: Host,
        command: str,
        key: str = KEY,
        options: Sequence[str] = (),
        timeout: float = 20,
    ) -> Finished:
        """Log in from one host to another over the network; returns whatever ssh gave."""
        words = ["ssh", "-i", key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        words += [*ANY_HOST_KEY, *options, f"{user}@{to_host.ip}", command]
        return from_host.run(words, check=False, timeout=timeout)

    def ssh_by_password(
        self, from_host: Host, user: str, to_host: Host, command: str, password: str
    ) -> Finished:
        """The same with one password and no key."""
        from_host.write("/root/ask", '#!/bin/sh\necho "$PASSWORD"\n', mode="0755")
        asked = {"PASSWORD": password, "SSH_ASKPASS": "/root/ask", "SSH_ASKPASS_REQUIRE": "force"}
        words = ["ssh", "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]
        words += ["-o", "PreferredAuthentications=password,keyboard-interactive"]
        words += [*ANY_HOST_KEY, f"{user}@{to_host.ip}", command]
        return from_host.run(words, check=False, timeout=20, env=asked)

    # -- the Salt cluster -----------------------------------------------------------------------

    def salt_cluster(self, minions: Sequence[str] = ("web1", "web2")) -> dict[str, Host]:
        """Boot a Salt master, which is the management host too, and minions; all answer.

        The repository lies in /srv/rocksalt of the master, a copy of its pillar to play with in
        /srv/rocksalt-pillar, the administrator's private key in /root/.ssh.
        """
        if (self.salt, self.release) == ("3006", "debian-13"):
            raise LabError(
                "A master of Salt 3006 does not answer minions on Debian 13's Python 3.13; choose "
                "Salt 3008 or debian-12 (salt-call --local works there)."
            )
        addresses = {name: f"10.79.0.{number}" for number, name in enumerate(minions, 11)}
        master, *others = self.boot({"master": MASTER_IP, **addresses})
        master.write(KEY, (self.state / "key").read_text(), mode="0600")
        with step("starting Salt"):
            self._configure_master(master)
            master.run("systemctl enable --now --quiet salt-master")
            in_parallel(lambda minion: self._configure_minion(master, minion), others)
            master.wait_for(["nc", "-z", master.ip, "4506"])
            in_parallel(lambda m: m.run("systemctl enable --now --quiet salt-minion"), others)
        with step("waiting for every minion to answer"):
            self._wait_for_minions(master, minions)
        return {host.name: host for host in (master, *others)}

    def salt_minion(self, master: Host, host: Host) -> None:
        """Make one more host a minion, perhaps the master itself; it answers."""
        self._configure_minion(master, host)
        host.run("systemctl enable --now --quiet salt-minion")
        self._wait_for_minions(master, [host.name], host.PATIENCE)

    def _configure_master(self, master: Host) -> None:
        """Write the master's configuration and give it the repository."""
        master.copy_repo()
        master.run(
            "mkdir -p /srv/rocksalt/pillar && cp -rL /srv/rocksalt/pillar /srv/rocksalt-pillar"
        )
        pillar = "/srv/rocksalt-pillar/hardening.sls"
        own = [f"  {key}: {json.dumps(value)}" for key, value in self.pillar.items()]
        text = "\n".join([master.read(pillar), "  # The lab's own.", *own, ""])
        master.write(pillar, text)
        config = {
            "interface": master.ip,
            "file_roots": {"base": ["/srv/rocksalt/salt"]},
            "runner_dirs": ["/srv/rocksalt/_runners"],
            "reactor": [{"rocksalt/firewall/armed": ["salt://hardening/firewall/knock.sls"]}],
            "pillar_roots": {"base": ["/srv/rocksalt-pillar"]},
            "worker_threads": 3,
        }
        master.write("/etc/salt/master.d/lab.conf", json.dumps(config, indent=2))

    def _configure_minion(self, master: Host, minion: Host) -> None:
        """Write a minion's configuration and make its key known to the master beforehand."""
        # Salt waits up to ten seconds between attempts to connect; tests should not.
        reconnect = {"recon_default": 100, "recon_max": 500, "recon_randomize": False}
        config = {"master": master.ip, "id": minion.name, **reconnect}
        minion.write("/etc/salt/minion.d/lab.conf", json.dumps(config, indent=2))
        # Made on the master: a virtual machine would take half a minute.
        made, keys = f"/root/keys-of-{minion.name}", "/etc/salt/pki/minion"
        master.run(f"mkdir {made} && salt-key --gen-keys=minion --gen-keys-dir={made}")
        public = master.read(f"{made}/minion.pub")
        minion.write(f"{keys}/minion.pem", master.read(f"{made}/minion.pem"), mode="0400")
        minion.write(f"{keys}/minion.pub", public)
        master.write(f"/etc/salt/pki/master/minions/{minion.name}", public)
        master.run(f"rm -r {made}")

    def _wait_for_minions(self, master: Host, minions: Sequence[str], timeout: float = 120) -> None:
        """Wait until every minion answers test.ping."""
        # A ping that nobody hears takes over ten seconds: first let everybody subscribe.
        for name in minions:
            peer = f"sport = :4505 and dst {self.hosts[name].ip}"
            master.wait_for(f"ss -Htn state established '{peer}' | grep -q .", timeout)
        # Nor shall a slow host be asked again while it still thinks about its answer.
        ping = ["salt", "--static", "--out=json", f"--timeout={timeout / 5:.0f}"]
        ping += ["--list", ",".join(minions), "test.ping"]
        deadline = time.monotonic() + timeout
        answered, said = set[str](), ""
        while not answered >= set(minions):
            if time.monotonic() > deadline:
                silent = ", ".join(sorted(set(minions) - answered))
                raise LabError(f"{silent} did not answer test.ping in {timeout:.0f} s: {said}")
            done = master.run(ping, check=False, timeout=timeout)
            said = f"{done.stdout}{done.stderr}".strip()[-1000:]
            with contextlib.suppress(ValueError):
                answered = {name for name, yes in json.loads(done.stdout).items() if yes is True}


def in_parallel(function: Callable[[T], object], items: Iterable[T]) -> None:
    """Call a function for several hosts at the same time; the first error is raised."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(function, items))


def cgroup_roots(kind: str) -> list[Path]:
    """Where this machine has control groups of a kind: "cgroup2", or the old "cgroup"."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [Path(fields[1]) for fields in mounts if fields[2] == kind]
    if kind == "cgroup2" and not roots:
        raise LabError("This machine has no control groups of version 2; use a newer kernel.")
    return roots


# -- cleaning -----------------------------------------------------------------------------------


def labs() -> list[Lab]:
    """Every lab on this machine, running or left behind."""
    return [Lab.load(path.parent.name) for path in sorted(RUN.glob("*/lab.json"))]


def sweep() -> list[str]:
    """Remove what runs left whose process is gone (killed, or the machine was restarted)."""
    with locked(RUN / "lock"):
        dead: dict[str, Path | None] = {lab.id: lab.disk for lab in labs() if lab.abandoned}
        dead |= {path.name: None for path in RUN.glob("*/") if not (path / "lab.json").exists()}
        disks = cache().glob("disks/*")
        dead |= {path.name: path for path in disks if not (RUN / path.name).exists()}
        for id, disk in dead.items():
            print(f"lab: removing what run {id} left behind", flush=True)
            remove(id, disk)
    return list(dead)


def remove(id: str, disk: Path | None = None) -> None:
    """Remove a run: processes, control groups, mounts, namespaces, disks. Safe to repeat."""
    roots = [*cgroup_roots("cgroup2"), *cgroup_roots("cgroup")]
    cgroup, *_ = cgroups = [root / f"rocksalt-lab-{id}" for root in roots]
    kill_cgroup(cgroup)
    deadline = time.monotonic() + 10
    while occupied(cgroup):
        if time.monotonic() > deadline:
            raise LabError(f"Processes in {cgroup} do not end; end them, then run `down` again.")
        time.sleep(0.05)
    for group in filter(Path.exists, cgroups):
        for folder in sorted(group.rglob("*/"), reverse=True):
            folder.rmdir()
        group.rmdir()
    forget_nspawn(RUN / id)
    remove_tree(RUN / id)
    remove_tree(disk or cache() / "disks" / id)


def forget_nspawn(state: Path) -> None:
    """Remove the lock files and folders that a killed systemd-nspawn leaves in /run."""
    nspawn = Path("/run/systemd/nspawn")
    for root in state.glob("*/root"):
        status = root.stat()
        (nspawn / f"locks/inode-{status.st_dev}:{status.st_ino}").unlink(missing_ok=True)
    for folder in nspawn.glob(f"*/rocksalt-{state.name}-*"):
        shutil.rmtree(folder)
