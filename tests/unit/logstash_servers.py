"""A log server, and a witness, that are as the baseline wants them, with true certificates."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from functools import cache
from typing import Any

from logstash_hosts import GIB, NOW, PYTHON, begun, stamp

from rocksalt import findings, logstash, settings
from rocksalt.accounts import daemon
from rocksalt.backup.crypto import sshsig
from rocksalt.host import Host
from rocksalt.logstash import certified, checks, facts, knocking, roles, server, told, witness
from rocksalt.logstash.receiving import ledger
from rocksalt.logstash.receiving.witness import Desk
from rocksalt.pki import authority, certificates
from rocksalt.transaction import Transaction

ADDRESS, NAME = "10.79.0.9", "logs.example.org"
USER, WITNESS = logstash.USER, logstash.WITNESS_USER
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def ca(name: str = "logs") -> authority.Authority:
    """An authority, the same one for a name each time."""
    return _ca(name)


@cache
def _ca(name: str) -> authority.Authority:
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="rocksalt-ca-"))
    host = Host(_FOLDERS[-1].name)
    authority.make(host, name, 3650, NOW, authority.folder_of("logs"))
    return authority.Authority(host, "logs")


@cache
def key() -> str:
    """The public half of a key for ssh or signatures."""
    return signer("other").public


@cache
def signer(name: str) -> sshsig.Signer:
    """A key that signs, the same one for a name each time."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="rocksalt-key-"))
    sshsig.generate(f"{_FOLDERS[-1].name}/key")
    return sshsig.Signer.load(f"{_FOLDERS[-1].name}/key")


PILLAR: dict[str, Any] = {
    "networks": {"management": ["10.79.0.1/32"], "fleet": ["10.79.0.0/24"]},
    "firewall": {
        "services": {"relp": {"tcp": [2601, 2602]}},
        "allow": {"relp": ["fleet"]},
    },
    "logstash": {
        "servers": [{"host": ADDRESS, "name": NAME}, {"host": "10.79.0.8", "name": "logs2"}],
        "ports": {"logs1": 2601, "web1": 2602},
        "receiver": {
            "address": ADDRESS,
            "witness": {"host": "10.79.0.8", "host_key": key(), "key": key()},
        },
    },
}
WITNESSING: dict[str, Any] = {
    "networks": PILLAR["networks"],
    "sshd": {"allow_groups": ["sudo", WITNESS]},
    "accounts": {"users": {WITNESS: {}}},
    "logstash": {
        "servers": PILLAR["logstash"]["servers"],
        "ports": {"wit1": 2603},
        "witness": {"clients": {"logs1": {"key": key(), "signer": signer("logs1").public}}},
    },
}
PASSWD = f"""\
root:x:0:0:root:/root:/bin/bash
{USER}:x:990:990::{daemon.HOME}:{daemon.SHELL}
{WITNESS}:x:991:991::{roles.WITNESS_HOME}:/bin/sh
"""
GROUP = f"root:x:0:\n{USER}:x:990:\n{WITNESS}:x:991:\n"
SHADOW = f"root:!:20000::::::\n{USER}:!:20000::::::\n{WITNESS}:!:20000::::::\n"
SPACE = [100 * GIB, 50 * GIB]
"""The size of the disk, and what is free."""
SOCKET = (
    "tcp LISTEN 0 5 {address}:{port} 0.0.0.0:* "
    'users:(("rsyslogd",pid=800,fd={port})) ino:1 sk:1 <->\n'
)
REFUSED = knocking.Answers(*["refused"] * 4)


def comparison(
    shipped: Any, host: Any, own: dict[str, Any] = PILLAR, minion: str = "logs1", **more: Any
) -> checks.Logstash:
    """``logstash={...}`` and other parts of a pillar are laid on that of the good host."""
    baseline = settings.resolve(shipped, settings.merge(own, more), {}, minion)
    size, free = SPACE
    wires = facts.Wires(disk=lambda path: (size, free))
    return checks.Logstash(baseline, minion, host, NOW, PYTHON, wires)


def differing(it: checks.Logstash, ids: Any) -> dict[str, str]:
    """Control id -> why it is not as expected, or could not be looked at."""
    found = findings.judge(it.setup.baseline, "logstash", it.expected(), it.seen())
    return {at["id"]: at["reason"] for at in found if at["id"] in ids and at["status"] != "ok"}


def signed(name: str, *names: str, by: str = "logs", days: int = 365) -> tuple[str, str]:
    """A certificate and its key in PEM: of a log server with ``names``, of a shipper without."""
    own = certificates.new_key()
    asked = certificates.request(own, name, *names)
    if names:
        made = ca(by).service(asked, name, names, days, NOW)
    else:
        made = ca(by).member(asked, name, days, NOW)
    return certificates.pem(made), certificates.key_pem(own)


@cache
def good_certificates() -> tuple[tuple[str, str], tuple[str, str]]:
    """Of the shipper and of the log server."""
    return signed("logs1"), signed("logs1", NAME, ADDRESS)


def put_certificates(host: Any, own: tuple[str, str], serving: tuple[str, str]) -> None:
    host.put(logstash.AUTHORITY, ca().text)
    host.put(logstash.CERTIFICATE, own[0])
    host.put(logstash.KEY, own[1], 0o600)
    host.put(logstash.SERVER_CERTIFICATE, serving[0])
    host.put(logstash.SERVER_KEY, serving[1], 0o640)
    host.groups[logstash.SERVER_KEY] = USER
    host.path(logstash.FOLDER).chmod(0o755)


def bare(host: Any) -> None:
    """A host with rsyslog on which nothing is set up yet; what systemd is asked works."""
    host.put("/etc/passwd", PASSWD)
    host.put("/etc/group", GROUP)
    host.put("/etc/shadow", SHADOW, 0o640)
    host.put(server.RSYSLOGD, mode=0o755)
    for module in ("imrelp", "omprog"):
        host.put(f"/usr/lib/x86_64-linux-gnu/rsyslog/{module}.so")
    for command in ("systemctl", "journalctl", server.RSYSLOGD, "useradd", "usermod"):
        host.answer(command)
    put_certificates(host, *good_certificates())


def units(host: Any, ago: float = -60, **other: str) -> None:
    """What systemd shows; rsyslogd began after all that a test writes."""
    show = f"systemctl show {server.UNITS[0]}"
    first = (
        f"Id={server.UNITS[0]}\nActiveState=active\nActiveEnterTimestampMonotonic={begun(ago)}\n"
    )
    host.answer(f"{show} -p", first)
    shown = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no", **other}
    lines = "".join(f"{name}={value}\n" for name, value in shown.items())
    blocks = [f"Id={unit}\n{lines}" for unit in server.UNITS]
    host.answer(f"{show} {server.UNITS[1]}", "\n".join(blocks))


def listens(host: Any, *places: tuple[str, int]) -> None:
    """What ss shows of the log server."""
    host.owners["/proc/800"] = USER
    host.put("/proc/800/comm", "rsyslogd\n")
    found = "".join(SOCKET.format(address=address, port=port) for address, port in places)
    host.answer("ss -Hltunpe", found)


def said(host: Any, path: str, **found: Any) -> None:
    """What the programs of the log server wrote down."""
    host.put(path, json.dumps(found), 0o640, USER)


def host_status(seconds: float = 60, **flags: Any) -> dict[str, Any]:
    none = {"host": 0, "json": 0, "last_flagged": None}
    return {"n": 9, "hash": "0", "received": stamp(seconds), "flags": {**none, **flags}}


def good(shipped: Any, host: Any) -> None:
    """Makes a log server on which each of its controls is ok."""
    bare(host)
    it = comparison(shipped, host)
    change = Transaction(host)
    server.put(host, it, change, server.CHECKS)
    certified.put(host, it, change, {**certified.CHECKS, **server.CHECKS})
    host.ran.clear()
    units(host)
    listens(host, (ADDRESS, 2601), (ADDRESS, 2602))
    hosts = {name: host_status() for name in ("logs1", "web1")}
    said(host, told.STATUS, time=stamp(), hosts=hosts, torn=[])
    said(host, told.HEADS, witnessed_until=stamp(30), unwitnessed_since=None, error="", failed={})
    found = {"web1": {"problems": []}}
    said(host, told.VERIFIED, time=stamp(3600), ok=True, hosts=found, problems=[])
    heads = {"heads": {name: [9, "00"] for name in hosts}}
    for path in ("web1/2020-01-01.jsonl.gz", "web1/2026-11-23.jsonl", ".heads/state.json"):
        host.put(f"{logstash.RECEIVED}/{path}", json.dumps(heads), 0o640, USER)
        folder = f"{logstash.RECEIVED}/{path.partition('/')[0]}"
        host.path(folder).chmod(0o750)
        host.owners[folder] = USER


def witnesses(shipped: Any, host: Any) -> None:
    """Makes a witness on which each of its controls is ok."""
    bare(host)
    witness.put(host, watching(shipped, host), Transaction(host), witness.CHECKS)
    host.ran.clear()
    entry(host, 1, "", 30)


def watching(shipped: Any, host: Any, **more: Any) -> checks.Logstash:
    return comparison(shipped, host, WITNESSING, "wit1", **more)


def entry(host: Any, sequence: int, previous: str, ago: float) -> dict[str, Any]:
    """Has the witness sign an entry of logs1 so many seconds ago; what it answered."""
    config = json.loads(host.read(logstash.WITNESS_CONFIG))
    config["path"] = str(host.path(config["path"]))
    then = NOW - dt.timedelta(seconds=ago)
    desk = Desk(config, "logs1", signer("wit1"), lambda: then)
    text = ledger.write("logs1", sequence, previous, f"{then:%Y-%m-%dT%H:%M:%SZ}", {})
    signature = signer("logs1").sign(text, ledger.ENTRIES)
    line = {"op": "put", "entry": text.decode(), "signature": signature.decode()}
    answer, _ = desk.answer(line)
    for path in host.path(config["path"].removeprefix(host.root)).rglob("*"):
        host.owners[str(path)[len(host.root) :]] = WITNESS
        path.chmod(0o750 if path.is_dir() else 0o640)
    return dict(answer)
