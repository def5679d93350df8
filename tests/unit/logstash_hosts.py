"""A host whose logs are shipped as the baseline wants it."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

from rocksalt import logstash, settings
from rocksalt.logstash import checks, journald, shipper
from rocksalt.logstash.facts import Wires, digest

NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
PYTHON = "/opt/salt/bin/python3"
PID = 700
PILLAR: dict[str, Any] = {
    "roles": {"web": {"minions": ["web*"]}, "all": {"minions": ["*"]}},
    "logstash": {
        "servers": [{"host": "10.79.0.9", "name": "logs1"}, {"host": "logs2", "port": 2700}],
        "ports": {"web1": 2601, "db1": 2602},
    },
}
SHOW = f"systemctl show {logstash.SHIPPER_UNIT}"
SHOW_JOURNALD = f"systemctl show {journald.UNIT}"
SHOW_ALL = "systemctl show *.service"
CAT = f"systemd-analyze cat-config {journald.NAME}"
STOCK = "# /etc/systemd/journald.conf\n# A comment with a = sign.\n\n[Journal]\n#Storage=auto\n"
MARK = "0123456789abcdef"
FOLLOWED = tuple(
    f"/var/log/{name}"
    for name in (
        *("dpkg.log", "apt/term.log", "salt/minion", "audit/audit.log", "cloud-init-output.log"),
        "unattended-upgrades/unattended-upgrades.log",
    )
)
"""Files that are shipped where they are there."""
SOURCE = {"dataset": "x", "offset": 7, "size": 7, "waiting": 0}
GIB = 1024**3


def stamp(seconds: float = 0) -> str:
    """A time so many seconds ago."""
    return (NOW - dt.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class Net:
    """The world around a host as a test wants it; time passes only by sleeping."""

    def __init__(self) -> None:
        self.names = ["logs2"]
        self.disk = (100 * GIB, 50 * GIB)
        self.time = 0.0
        self.meanwhile: Any = None

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        assert self.time < 1000, "nothing was waited for"
        if self.meanwhile:
            self.meanwhile(self.time)

    def wires(self) -> Wires:
        return Wires(
            resolves=lambda name: name in self.names,
            disk=lambda path: self.disk,
            clock=lambda: self.time,
            sleep=self.sleep,
        )


def baseline(shipped: Any, **pillar: Any) -> settings.Baseline:
    return settings.resolve(shipped, settings.merge(PILLAR, pillar), {}, "web1")


def comparison(shipped: Any, host: Any, net: Net, **pillar: Any) -> checks.Logstash:
    """``logstash={...}`` and other parts of a pillar are laid on that of the good host."""
    return checks.Logstash(baseline(shipped, **pillar), "web1", host, NOW, PYTHON, net.wires())


def begun(ago: float) -> int:
    """When something started, as systemd has it: before what tests take for now, or (below 0) after
    all that they write.
    """
    late = time.time() - NOW.timestamp() if ago > 0 else 0
    return int((time.monotonic() - late - ago) * 1e6)


def unit(host: Any, ago: float = -60, **other: str) -> None:
    """What systemd shows of the shipper; it began after all that a test writes."""
    shown = {
        "Id": logstash.SHIPPER_UNIT,
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "FragmentPath": shipper.UNIT_PATH,
        "DropInPaths": "",
        "MainPID": str(PID),
        "ActiveEnterTimestampMonotonic": str(begun(ago)),
        **other,
    }
    host.answer(SHOW, "".join(f"{key}={value}\n" for key, value in shown.items()))


def journal(host: Any, ago: float = -60, state: str = "active") -> None:
    """What systemd shows of journald."""
    shown = f"ActiveState={state}\nMainPID=200\nActiveEnterTimestampMonotonic={begun(ago)}\n"
    host.answer(SHOW_JOURNALD, shown)


def journald_has(host: Any, *more: str) -> None:
    """What ``systemd-analyze cat-config`` prints: the stock file, ours, and ``more``."""
    ours = f"# {journald.DROP_IN}\n{host.read(journald.DROP_IN) or ''}"
    host.answer(CAT, "\n".join([STOCK, ours, *more]))


def said(host: Any, **other: Any) -> None:
    """What the shipper says of itself."""
    status = {
        "time": stamp(1),
        "pid": PID,
        "config": digest(host.read(logstash.SHIPPER_CONFIG)),
        "program": "1",
        "server": "logs1",
        "connected_since": stamp(3600),
        "disconnected_since": None,
        "error": "",
        **{"sent": 9, "acknowledged": 9, "resent": 0, "dropped": 0, "lost": 0, "unknown_gaps": 0},
        **{"waiting": 0, "oldest_waiting": None, "full_since": None},
        "probe": {"mark": MARK, "acknowledged": stamp(100)},
        "marks": {MARK: stamp(100)},
        "sources": {"journal": {"waiting": 0}, **dict.fromkeys(FOLLOWED, SOURCE)},
        **other,
    }
    host.put(logstash.STATUS, json.dumps(status), 0o640)


def put_files(host: Any, it: checks.Logstash) -> None:
    """The files of the shipper and the journal as they are rendered."""
    for path, text in shipper.render(it).items():
        host.put(path, mode=int(shipper.ACCESS[path].split()[1], 8))
        host.path(path).write_bytes(text.encode(errors="surrogateescape"))
    host.put(journald.DROP_IN, journald.render(it))


def good(shipped: Any, host: Any) -> Net:
    """Makes a host on which every control of one that ships is ok, but for its certificates, which
    are only there.
    """
    net = Net()
    for path in (logstash.AUTHORITY, logstash.CERTIFICATE, logstash.KEY):
        host.put(path, "in PEM", 0o600 if path == logstash.KEY else 0o644)
    host.path(logstash.FOLDER).chmod(0o755)
    put_files(host, comparison(shipped, host, net))
    said(host)
    host.path(logstash.STATE).chmod(0o750)
    for name in ("syslog", "auth.log", "dpkg.log", "apt/term.log", "salt/minion", "faillog"):
        host.put(f"/var/log/{name}", "a line\n")
    host.put("/var/log/apt/eipp.log.xz", "packed")
    host.put("/var/log/empty.log")
    fd = host.path("/proc/200/fd")
    fd.mkdir(parents=True)
    (fd / "3").symlink_to("/run/systemd/journal/socket")
    (fd / "9").symlink_to("/var/log/journal/0123/system.journal")
    for command in ("systemctl", "journalctl"):
        host.answer(command)
    host.answer(SHOW_ALL, "Id=cron.service\nLogRateLimitIntervalUSec=0\nLogLevelMax=-1\n")
    unit(host)
    journal(host)
    journald_has(host)
    return net
