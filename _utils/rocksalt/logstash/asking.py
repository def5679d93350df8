"""What people ask a host for: whether a line arrives, how its shipper is, which keys it has."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.backup.crypto import sshsig
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.logstash.arriving import COUNTED
from rocksalt.logstash.checks import NOBODY, Logstash
from rocksalt.logstash.facts import read_json
from rocksalt.logstash.shipper import make_folders
from rocksalt.logstash.shipping import marks

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
PROBE = "rocksalt-probe"
PAUSE = 0.2
PATIENCE = 5.0
"""Seconds that journald has to take a line."""
LONGEST = 12 * 3600.0
"""Seconds that reading all received logs may take."""


def write_mark(host: Host, mark: str) -> None:
    """Writes a line to the journal that has a mark."""
    message = f"rocksalt looks whether a line arrives: {mark}"
    try:
        marks.write(mark, message, PROBE, PATIENCE, str(host.path(marks.SOCKET)))
    except OSError as error:
        raise Refused(f"{marks.SOCKET} takes no line, so journald does not run: {error}") from None


def probe(
    it: Logstash, timeout: float, write: Callable[[Host, str], None] = write_mark
) -> dict[str, Any]:
    """Whether a line that is written now arrives: ``{"arrived", "seconds", "server"}``, and where
    it did not, ``reason``.
    """
    if why := _hindered(it):
        return {"arrived": False, "seconds": 0.0, "server": None, "reason": why}
    mark, begin = secrets.token_hex(16), it.wires.clock()
    write(it.host, mark)
    while True:
        said = read_json(it.host, logstash.STATUS) or {}
        seconds = round(it.wires.clock() - begin, 1)
        told = {"seconds": seconds, "server": said.get("server")}
        if mark in (said.get("marks") or {}):
            return {"arrived": True, **told}
        if seconds >= timeout:
            return {"arrived": False, **told, "reason": _late(said, seconds)}
        it.wires.sleep(PAUSE)


def _hindered(it: Logstash) -> str:
    if not it.setup.ships:
        return f"{NOBODY}: {it.setup.family.where('servers')} is empty"
    if not it.runs:
        return f"the shipper does not run: systemctl status {logstash.SHIPPER_UNIT}"
    return ""


def _late(said: Mapping[str, Any], seconds: float) -> str:
    if said.get("server"):
        late, waiting = f"it has not arrived in {seconds:.0f} s", said.get("waiting")
        if waiting is None:
            return f"{late}: {said.get('error') or 'the shipper cannot ask journalctl'}"
        return f"{late}, and {waiting} lines wait"
    since = said.get("disconnected_since")
    error = said.get("error") or "no log server has answered yet"
    return f"no log server is connected{f' since {since}' if since else ''}: {error}"


def accept(it: Logstash) -> dict[str, Any]:
    """Notes what was dropped and lost so far as looked at; the figures."""
    said = it.status
    if said is None:
        raise Refused(f"{logstash.STATUS} says nothing yet, so there is nothing to accept")
    counts = {kind: int(said.get(kind) or 0) for kind in COUNTED}
    make_folders(it.host)
    text = json.dumps({**counts, "time": it.now.isoformat(timespec="seconds")}, indent=2)
    it.host.write(logstash.ACCEPTED, f"{text}\n", "0600")
    return counts


def keys(host: Host) -> dict[str, str]:
    """The public keys by which log servers and witnesses know each other, made where there are
    none: ``signing`` and ``transport`` of a log server, ``witness`` of one that witnesses, and
    ``host``, which is the SSH server's.
    """
    make_folders(host)
    paths = (logstash.SIGNING_KEY, logstash.TRANSPORT_KEY, logstash.WITNESS_KEY)
    found = {}
    for name, path in zip(("signing", "transport", "witness"), paths, strict=True):
        if host.attributes(path, follow=False) is None:
            host.remove(f"{path}.pub")
            sshsig.generate(host.path(path))
        found[name] = sshsig.Signer.load(host.path(path)).public
    public = host.read(HOST_KEY) or ""
    return {**found, "host": " ".join(public.split()[:2])}


def verify(host: Host, only: str = "") -> dict[str, Any]:
    """What ``rocksalt-logs verify`` found of all hosts, or of ``only`` one; it runs as the account
    that has the logs. See :func:`rocksalt.logstash.receiving.verify.check`.
    """
    if host.attributes(logstash.RECEIVER_CONFIG) is None:
        raise Refused(f"this host is no log server: {logstash.RECEIVER_CONFIG} does not exist")
    named = ("--host", only) if only else ()
    command = ("runuser", "-u", logstash.USER, "--", logstash.LOGS, "verify", "--json", *named)
    ran = host.run(*command, timeout=LONGEST)
    try:
        return dict(json.loads(ran.out))
    except ValueError:
        words = " ".join((ran.err or ran.out).split())
        raise Refused(f"{logstash.LOGS} verify: {words or 'it says nothing'}") from None
