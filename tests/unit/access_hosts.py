"""The host of a Salt master on which every control of the family is ok."""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import nrpe_hosts

from rocksalt import access, logbook, settings
from rocksalt.access import (
    booked,
    checks,
    compiled,
    knocking,
    minion,
    rendering,
    served,
    signing,
    sources,
    survey,
)
from rocksalt.access.door import passwords
from rocksalt.access.facts import API, MASTER, Wires
from rocksalt.backup.crypto import sshsig
from rocksalt.logbook.units import FOLDER as UNITS
from rocksalt.nrpe import tls
from rocksalt.pki import certificates

NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
MINION, ADDRESS, PORT = "master1", "10.79.0.2", 8000
FOLDER = "/etc/salt"
MAIN, CONFIG = f"{FOLDER}/master", f"{FOLDER}/master.d/{access.MASTER_CONFIG}"
CERTIFICATE, KEY = "/etc/rocksalt/access/api.pem", "/etc/rocksalt/access/api.key"
PKI, CACHE = "/etc/salt/pki/master", "/var/cache/salt/master"
PIDS = {MASTER: "700", API: "710"}
VERSION = "/usr/bin/salt-master --version"
LISTENING = 'LISTEN 0 5 {place} 0.0.0.0:* users:(("salt-api",pid={pid},fd=9))\n'
STOCK: dict[str, Any] = {
    "user": "salt",
    "interface": "0.0.0.0",
    "publish_port": 4505,
    "ret_port": 4506,
    "pki_dir": PKI,
    "cachedir": CACHE,
    "token_dir": f"{CACHE}/tokens",
    "extension_modules": f"{CACHE}/extmods",
    "file_roots": {"base": ["/srv/salt"]},
    "pillar_roots": {"base": ["/srv/pillar"]},
    "external_auth": {},
    "publisher_acl": {},
    "eauth_acl_module": "",
    "order_masters": False,
    "sign_pub_messages": True,
    "minimum_auth_version": 3,
    "publish_signing_algorithm": "PKCS1v15-SHA1",
    "require_minion_sign_messages": False,
    "drop_messages_signature_fail": False,
    "token_expire": 43200,
    "master_sign_key_name": "master_sign",
    "reactor": [],
    "module_dirs": [],
}
"""What Salt takes for granted, as far as somebody looks at it; ``user`` is of the main file."""


@cache
def hashed(password: str) -> str:
    return passwords.make(password)[1]


@cache
def signing_key() -> str:
    """A key that signs."""
    with tempfile.TemporaryDirectory() as folder:
        sshsig.generate(f"{folder}/key")
        with open(f"{folder}/key", encoding="ascii") as file:
            return file.read()


@cache
def witness() -> str:
    """A public key."""
    with tempfile.TemporaryDirectory() as folder:
        return sshsig.generate(f"{folder}/key")


def pillar() -> dict[str, Any]:
    return {
        "access": {
            "masters": [MINION],
            "minions_sign": True,
            "require_signed": True,
            "address": ADDRESS,
            "users": {
                "alice": {"grants": [{"role": "deployer", "targets": ["web*"], "apps": ["shop"]}]},
                "bob": {"grants": [{"role": "auditor", "targets": ["*"], "everywhere": True}]},
            },
            "hashes": {"alice": hashed("a long one"), "bob": hashed("another one")},
            "apps": {
                "shop": {
                    "states": ["shop.deployed"],
                    "version": r"\d+\.\d+",
                    "minions": ["web*"],
                }
            },
            "logbook_witness": {"host": "10.79.0.9", "host_key": witness(), "key": witness()},
        }
    }


def baseline(shipped: Any, **more: Any) -> settings.Baseline:
    return settings.resolve(shipped, settings.merge(pillar(), more), {}, MINION)


def merged(base: Any, over: Any) -> Any:
    """How Salt merges the files of ``master.d``."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: merged(base.get(key), over[key]) for key in over}}
    if isinstance(base, list) and isinstance(over, list):
        return [*base, *(item for item in over if item not in base)]
    return over


class Net:
    """The world around a host as a test wants it."""

    def __init__(self, host: Any) -> None:
        self.host = host
        shown = certificates.fingerprint(certificates.load(server()[0], "it")[0])
        self.answers = knocking.Answers(
            tls.SERVED, tls.REFUSED, tls.REFUSED, tls.REFUSED, shown, "200"
        )
        self.listens: bool | Callable[[], bool] = True
        self.asked: list[tuple[str, int]] = []
        self.slept = 0.0
        self.refusal = 0
        self.release = "3008.3"

    def sleep(self, seconds: float) -> None:
        """The logbook says meanwhile how it is, where its unit is there."""
        self.slept += seconds
        if self.host.attributes(booked.UNIT_PATH):
            tell(self.host, "status")

    def knock(self, address: str, port: int) -> knocking.Answers:
        self.asked.append((address, port))
        return self.answers

    def answers_in(self, seconds: float, address: str, port: int, alive: Any) -> bool:
        self.asked.append((address, port))
        listens = self.listens() if callable(self.listens) else self.listens
        return listens and alive()

    def bound(self, address: str, port: int) -> int:
        """What the kernel says against listening there."""
        return self.refusal

    def wires(self) -> Wires:
        return Wires(
            self.knock,
            self.answers_in,
            lambda user: user,
            self.sleep,
            self.bound,
            lambda: self.release,
        )

    def config(self, path: str, folder: str = "") -> dict[str, Any]:
        """What Salt makes of the files; a functional test compares it with Salt itself."""
        folder = folder or f"{os.path.dirname(path)}/master.d"
        found = copy.deepcopy({**STOCK, "user": "root"})
        read = {source.path: source.data for source in sources.read(self.host, path)}
        found.update(read.get(path, {}))
        first: dict[str, Any] = {}
        for name in (name for name in read if name.startswith(f"{folder}/")):
            first = merged(first, copy.deepcopy(dict(read[name])))
        found.update(first)
        for name in read:
            if name != path and not name.startswith(f"{folder}/"):
                found.update(read[name])
        return found


def comparison(shipped: Any, host: Any, net: Net, minion: str = MINION, **more: Any) -> Any:
    """``access={...}`` and other parts of a pillar are laid on that of the good host."""
    return checks.Access(
        baseline(shipped, **more), minion, host, NOW, FOLDER, net.config, net.wires()
    )


@cache
def server() -> tuple[str, str]:
    """The certificate of salt-api and its key, in PEM."""
    return nrpe_hosts.server(MINION, ADDRESS, by="access")


def units(
    host: Any, started: float = 60, minion_started: float = 60, **other: dict[str, str]
) -> None:
    """What systemd shows of both services; they started so many seconds from now, which is after
    all that a test writes. ``master={...}`` and ``api={...}`` replace parts.
    """
    stamp = str(int((time.monotonic() + started) * 1e6))
    shown = {}
    for unit in (MASTER, API):
        name = unit.removesuffix(".service")
        program = f"/usr/bin/{name}"
        known = {
            "Id": unit,
            "ActiveState": "active",
            "UnitFileState": "enabled",
            "NeedDaemonReload": "no",
            "FragmentPath": f"/lib/systemd/system/{unit}",
            "MainPID": PIDS[unit],
            "ExecStart": f"{{ path={program} ; argv[]={program} ; ignore_errors=no }}",
            "ActiveEnterTimestampMonotonic": stamp,
            **other.get(name.removeprefix("salt-"), {}),
        }
        shown[unit] = "".join(f"{key}={value}\n" for key, value in known.items())
        host.answer(f"systemctl show {unit}", shown[unit])
    stamp = str(int((time.monotonic() + minion_started) * 1e6))
    running = f"ActiveState=active\nActiveEnterTimestampMonotonic={stamp}\n"
    host.answer(f"systemctl show {minion.UNIT}", running)
    host.answer(f"systemctl show -P ActiveState {minion.UNIT}", "active\n")
    host.answer(f"systemctl show {MASTER} {API}", "\n".join(shown.values()))


def stamp(seconds: float = 0) -> str:
    """A time so many seconds ago."""
    return f"{NOW - dt.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}Z"


def tell(host: Any, name: str, **other: Any) -> None:
    """What the programs of the logbook say in ``status``, ``verified`` or ``heads``."""
    good = {
        "status": {"heard": stamp(), "connected": True, "problem": ""},
        "verified": {
            "time": stamp(3600), "ok": True, "hosts": {MINION: {"problems": []}}, "problems": [],
            "witness": {"until": stamp(3600), "error": ""},
        },
        "heads": {
            "witnessed_until": stamp(30), "unwitnessed_since": None, "error": "", "failed": {},
        },
    }  # fmt: skip
    path = f"{logbook.STATE}/{name}.json"
    host.put(path, json.dumps({**good[name], **other}), 0o640, owner="salt")


BOOK = (logbook.UNIT, f"{logbook.VERIFY_UNIT}.timer", f"{logbook.HEADS_UNIT}.timer")


def book_units(host: Any, started: float = 60, **other: dict[str, str]) -> None:
    """What systemd shows of the logbook; ``service={...}``, ``verify``, ``heads`` replace parts."""
    made = int((time.monotonic() + started) * 1e6)
    shown = []
    for unit, name in zip(BOOK, ("service", "verify", "heads"), strict=True):
        known = {
            "Id": unit,
            "ActiveState": "active",
            "UnitFileState": "enabled",
            "NeedDaemonReload": "no",
            "FragmentPath": f"{UNITS}/{unit}",
            "DropInPaths": "",
            "ActiveEnterTimestampMonotonic": str(made),
            **other.get(name, {}),
        }
        shown.append("".join(f"{key}={value}\n" for key, value in known.items()))
    host.answer(f"systemctl show {logbook.UNIT}", "\n".join(shown))


def put_book(host: Any, it: checks.Access) -> None:
    """The logbook as it is installed, and what it said of itself."""
    for path, (text, rights) in booked.files(it).items():
        host.put(path)
        host.path(path).write_bytes(text.encode(errors="surrogateescape"))
        host.give(path, rights)
    host.put(f"{logbook.FOLDER}/{MINION}/2026-11-23.jsonl", "{}\n", 0o640, owner="salt")
    for path in booked.KEYS:
        host.put(path, signing_key(), 0o600, owner="salt")
    host.owners[f"{logbook.FOLDER}/{MINION}"] = "salt"
    for path, rights in booked.folders(it).items():
        host.give(path, rights)
    for name in ("status", "verified", "heads"):
        tell(host, name)
    book_units(host)


def listening(host: Any, *places: str, pid: str = PIDS[API]) -> None:
    """Where salt-api listens, and sshd beside it."""
    lines = [LISTENING.format(place=place, pid=pid) for place in places]
    host.answer("ss -Hltnp", "".join([*lines, LISTENING.format(place="0.0.0.0:22", pid=1)]))


def review(host: Any, it: checks.Access, days: float = 1) -> signing.Review:
    """Has ann have reviewed these settings so many days ago, and nobody before."""
    base = host.path(signing.BASE)
    shutil.rmtree(base / "reviews", ignore_errors=True)
    about = {
        "external_auth": compiled.compile(it.settings, NOW)["external_auth"],
        "described": compiled.described(it.settings),
        "root": {"files": {}, "elsewhere": [], "unseen": []},
    }
    return signing.sign("ann", about, NOW - dt.timedelta(days), base=str(base))


def surveyed(host: Any, ago: float = 60, **minions: str) -> None:
    """What minions did so many seconds ago, when they were asked whether they sign."""
    then = NOW - dt.timedelta(seconds=ago)
    found = survey.Survey(then, "PKCS1v15-SHA224", {"web1": survey.SIGNS, **minions})
    host.put(f"{CACHE}/{survey.FILE}", survey.text(found), 0o640, owner="salt")


def put_files(host: Any, it: checks.Access) -> None:
    """What the family writes, as it is rendered, and a review of it."""
    review(host, it)
    host.put(minion.path(FOLDER), minion.config(it.settings))
    surveyed(host)
    for path, text in rendering.door_files().items():
        host.put(path, text)
    for path in served.FOLDERS:
        host.path(path).chmod(0o755)
    for path, text in ((CONFIG, it.config), (access.USERS, rendering.users(it.settings))):
        host.put(path, text, 0o640)
        host.groups[path] = "salt"


def good(shipped: Any, host: Any) -> Net:
    """Makes a host on which every control is ok."""
    net = Net(host)
    host.path("/").chmod(0o755)
    host.put(MAIN, "user: salt\n", 0o640)
    certificate, key = server()
    host.put(CERTIFICATE, certificate)
    host.put(KEY, key, 0o640)
    for path in (MAIN, KEY):
        host.groups[path] = "salt"
    for path in (f"{PKI}/master.pem", f"{CACHE}/.salt_key", f"{CACHE}/tokens/abc"):
        host.put(path, "secret", 0o600, owner="salt")
    host.put(f"{CACHE}/.root_key", "secret", 0o600)
    host.path(f"{CACHE}/tokens").chmod(0o700)
    host.put("/srv/salt/top.sls", "base: {}\n")
    host.put("/srv/pillar/top.sls", "base: {}\n", 0o640)
    host.path("/srv/pillar").chmod(0o750)
    host.put(f"{PKI}/minions_pre/.keep")
    host.put(f"{PKI}/minions/web1", "key")
    host.put(
        "/etc/passwd", "root:x:0:0::/root:/bin/bash\nsalt:x:110:120::/nonexistent:/bin/false\n"
    )
    host.put("/etc/group", "root:x:0:\nsalt:x:120:\n")
    for unit, pid in PIDS.items():
        host.put(f"/proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
        host.put(f"/proc/{pid}/cmdline", f"/usr/bin/{unit.removesuffix('.service')}\0")
        host.owners[f"/proc/{pid}"] = "salt"
    put_files(host, comparison(shipped, host, net))
    put_book(host, comparison(shipped, host, net))
    for command in ("systemctl", "systemd-run", "journalctl", "runuser"):
        host.answer(command)
    units(host)
    listening(host, f"{ADDRESS}:{PORT}")
    host.answer(VERSION, "salt-master 3008.3 (Argon)\n")
    return net


def age(host: Any, path: str, days: float) -> None:
    """Has a file be so many days old."""
    then = NOW.timestamp() - days * 86400
    os.utime(host.path(path), (then, then))


def wrong(it: checks.Access) -> dict[str, str]:
    """The controls that differ or could not be looked at, and why; those that are skipped are
    neither.
    """
    want, seen = it.expected(), it.seen()
    return {
        i: look.reason
        for i, look in seen.items()
        if look.problem == "error" or (not look.problem and want[i] != look.actual)
    }
