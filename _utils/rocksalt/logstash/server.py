"""The log server: rsyslogd for the lines of all hosts, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache, partial
from typing import Any

from rocksalt import logstash, program, systemd
from rocksalt.accounts import daemon
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.host import Host
from rocksalt.logstash import certified, controls, listening, received, roles, room
from rocksalt.logstash.facts import Checks, Facts
from rocksalt.logstash.receiving import conf, units
from rocksalt.nrpe import tls
from rocksalt.pki import held
from rocksalt.transaction import ASIDE, Transaction, must, systemctl

ENTRY = "rocksalt.logstash.receiving.__main__"
RSYSLOGD = "/usr/sbin/rsyslogd"
UNIT_PATH = f"{units.FOLDER}/{logstash.RECEIVER_UNIT}"
UNITS = (
    logstash.RECEIVER_UNIT,
    f"{logstash.HEADS_UNIT}.timer",
    f"{logstash.VERIFY_UNIT}.timer",
)
"""Those that run from boot on."""
PATIENCE = 20.0
"""Seconds in which rsyslogd has to listen after its start."""
_FIRST_CHECK, _FIRST_HEADS = 300.0, 60.0
"""Seconds that a run of Salt waits for them; one that takes longer goes on by itself."""
RUNS, STARTED, CURRENT = "active, enabled", "started", "after its files were written"
_MODULES = "/usr/lib/*/rsyslog/{}.so"
_NEEDED = {"imrelp": "rsyslog-relp", "omprog": "rsyslog"}
_OWN_FILE = f"root:{logstash.USER} 0640"
PROGRAM_FILE, UNIT_FILE = "root:root 0755", "root:root 0644"


@cache
def program_text(interpreter: str) -> str:
    """The program of log servers and witnesses, as :class:`rocksalt.host.Host` reads it."""
    data = program.build(interpreter, ENTRY, program.sources(ENTRY))
    return data.decode(errors="surrogateescape")


def files(it: Facts) -> dict[str, tuple[str, str]]:
    """Path -> content and access of what we write."""
    settings = roles.receiver(it.setup)
    return {
        logstash.LOGS: (program_text(it.interpreter), PROGRAM_FILE),
        logstash.RECEIVER_CONFIG: (roles.as_json(settings), _OWN_FILE),
        logstash.RSYSLOG_CONFIG: (conf.render(settings), _OWN_FILE),
        **{path: (text, UNIT_FILE) for path, text in units.texts(settings).items()},
    }


def _unit_paths(it: Facts) -> list[str]:
    return [*units.texts(roles.receiver(it.setup))]


def _keys(it: Facts) -> dict[str, str]:
    """Path -> access of the keys that the log server makes itself."""
    rights = certified.rights(it)
    return {path: rights[path] for path in (logstash.SIGNING_KEY, logstash.TRANSPORT_KEY)}


# The comparison -----------------------------------------------------------------------------------


def _runs_expected(it: Facts) -> dict[str, str]:
    return {logstash.USER: daemon.CLOSED, **dict.fromkeys(UNITS, RUNS), STARTED: CURRENT}


def _runs_seen(it: Facts) -> Seen:
    known = systemd.units(it.host, UNITS)
    actual = {
        logstash.USER: daemon.state(it.host, logstash.USER),
        **{unit: systemd.state(known.get(unit, {})) for unit in UNITS},
        STARTED: CURRENT,
    }
    why = []
    if later := _later(it.host):
        actual[STARTED] = f"before {', '.join(later)}"
        why.append(f"{logstash.RECEIVER_UNIT} was not started since {', '.join(later)} changed")
    wanted = _runs_expected(it)
    why += [f"{name} {'is ' if name in UNITS else ''}{state}" for name, state in actual.items()
            if state != wanted[name] and name != STARTED]  # fmt: skip
    return Seen(actual, some(why))


def _later(host: Host) -> list[str]:
    """What the running log server has in an older version."""
    started = systemd.started(host, logstash.RECEIVER_UNIT)
    paths = (
        *(logstash.LOGS, logstash.RECEIVER_CONFIG, logstash.RSYSLOG_CONFIG, UNIT_PATH),
        *(logstash.AUTHORITY, logstash.SERVER_CERTIFICATE, logstash.SERVER_KEY),
    )
    found = {path: host.attributes(path) for path in paths if started}
    return [path for path, at in found.items() if at and started and at.changed > started]


def _ours_expected(it: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {
        path: f"{AS_RENDERED}, {rights}" for path, (_, rights) in files(it).items()
    }
    keys = {path: f"{sshsig.KIND}, {rights}" for path, rights in _keys(it).items()}
    return {**found, **keys, "beside": []}


def _ours_seen(it: Facts) -> Seen:
    wanted, actual = _ours_expected(it), {}
    for path, (text, _) in files(it).items():
        rights = it.host.access(path)
        actual[path] = f"{compared(it.host.read(path), text)}, {rights}" if rights else None
    for path in _keys(it):
        actual[path] = key_state(it.host, path)
    why = [
        f"{path} {actual[path] or 'does not exist'}" for path in actual
        if actual[path] != wanted[path]
    ]  # fmt: skip
    beside = systemd.overrides(it.host, _unit_paths(it))
    why += [f"{path} changes a unit" for path in beside]
    return Seen({**actual, "beside": beside}, some(why))


def key_state(host: Host, path: str) -> str | None:
    """The kind of a key that signs, and its access; None where there is none."""
    rights = host.access(path)
    try:
        sshsig.Signer.load(host.path(path))
        return f"{sshsig.KIND}, {rights}"
    except BackupError as error:
        return f"{error}, {rights}" if rights else None


# The change ---------------------------------------------------------------------------------------


def is_set_up(host: Host) -> bool:
    """Whether the baseline has made this host a log server."""
    there = daemon.state(host, logstash.USER) != "does not exist"
    return there and host.attributes(UNIT_PATH) is not None


def put(host: Host, it: Facts, change: Transaction, ids: Collection[str]) -> None:
    """Writes what the drifting controls ``ids`` ask for: the account, folders, files and keys."""
    if not {*CHECKS} & {*ids}:
        return
    if found := roles.problems(it.setup):
        raise Refused("; ".join(found))
    _refuse_without_rsyslog(host)
    if is_set_up(host):
        change.on_undo(partial(_go_on, host))
    daemon.make(host, logstash.USER)
    received.make_folders(host, it)
    for path, (text, rights) in files(it).items() if controls.SERVER_OURS in it.wanted else ():
        write(host, change, path, text, rights)
    for path, rights in _keys(it).items():
        make_key(host, path, rights)
    for path in systemd.overrides(host, _unit_paths(it)):
        if path.startswith(("/etc/systemd/", "/run/systemd/")) and host.attributes(path, False):
            change.rename(path, path + ASIDE)


def write(host: Host, change: Transaction, path: str, text: str, rights: str) -> None:
    """A file of ours, where it is not as it should be."""
    if host.read(path) != text or host.path(path).is_symlink():
        change.write(path, text, "0600")
    if host.access(path) != rights:
        host.give(path, rights)


def make_key(host: Host, path: str, rights: str) -> None:
    """A key that signs, unless there is one."""
    if host.attributes(path, follow=False) is None:
        host.remove(f"{path}.pub")
        host.path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        sshsig.generate(host.path(path))
    if host.access(path) != rights:
        host.give(path, rights)


def _refuse_without_rsyslog(host: Host) -> None:
    if host.attributes(RSYSLOGD) is None:
        raise Refused("rsyslog is not installed: apt-get install rsyslog rsyslog-relp")
    for module, package in _NEEDED.items():
        if not host.glob(_MODULES.format(module)):
            raise Refused(f"rsyslog has no module {module}: apt-get install {package}")


def _go_on(host: Host) -> None:
    """The log server runs on with the files that are back."""
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "try-restart", logstash.RECEIVER_UNIT)


def take_effect(host: Host, it: Facts) -> None:
    """Starts what was put, and has it checked where that was not done or found something. Without a
    certificate, which the master brings, nothing runs.
    """
    if not held.read(host, certified.SERVER).complete or controls.SERVER not in it.wanted:
        return
    systemctl(host, "daemon-reload")
    active = systemd.units(host, UNITS[:1]).get(UNITS[0], {}).get("ActiveState") == "active"
    if _later(host) or not active:
        restart(host, it)
    for unit in UNITS:
        systemctl(host, "enable", "--quiet", "--now", unit)
    host.run("systemctl", "start", f"{logstash.HEADS_UNIT}.service", timeout=_FIRST_HEADS)
    if not received.is_verified(it):
        host.run("systemctl", "start", f"{logstash.VERIFY_UNIT}.service", timeout=_FIRST_CHECK)


def restart(host: Host, it: Facts) -> None:
    """Starts rsyslogd anew on its files, tries those out before, and waits until it listens."""
    how = (RSYSLOGD, "-N1", "-f", logstash.RSYSLOG_CONFIG)
    must(host, f"rsyslogd does not take {logstash.RSYSLOG_CONFIG}", *how)
    host.run("systemctl", "reset-failed", logstash.RECEIVER_UNIT)
    systemctl(host, "restart", logstash.RECEIVER_UNIT)
    settings = roles.receiver(it.setup)
    for port in sorted(settings["hosts"].values()):
        if not tls.answers_in(PATIENCE, settings["address"], port, partial(_alive, host)):
            raise Refused(
                f"{logstash.RECEIVER_UNIT} does not listen on {settings['address']} port {port}: "
                f"{systemd.said(host, logstash.RECEIVER_UNIT)}"
            )


def _alive(host: Host) -> bool:
    return host.run("systemctl", "is-active", "--quiet", logstash.RECEIVER_UNIT).status == 0


# Taking it away -----------------------------------------------------------------------------------


def leftovers(host: Host) -> list[str]:
    """What ``clean`` takes away. Keys, the account and received logs stay."""
    own = [logstash.LOGS, logstash.RECEIVER_CONFIG, logstash.RSYSLOG_CONFIG]
    found = [path for path in own if host.attributes(path, follow=False) is not None]
    names = (logstash.RECEIVER_UNIT, f"{logstash.HEADS_UNIT}.*", f"{logstash.VERIFY_UNIT}.*")
    return found + [path for name in names for path in host.glob(f"{units.FOLDER}/{name}")]


def clean(host: Host) -> None:
    """Takes it away, and gives back what was put aside."""
    found = leftovers(host)
    for unit in UNITS:
        if f"{units.FOLDER}/{unit}" in found:
            host.run("systemctl", "disable", "--now", "--quiet", unit)
    for path in found:
        host.remove(path)
        for aside in host.glob(f"{path}.d/*{ASIDE}"):
            host.rename(aside, aside.removesuffix(ASIDE))


def _with_certificate(look: Callable[[Facts], Seen]) -> Callable[[Facts], Seen]:
    """What is to be seen once the log server can run."""

    def looked(it: Facts) -> Seen:
        if found := roles.problems(it.setup):
            return Seen(problem="error", reason=some(found))
        if held.read(it.host, certified.SERVER).complete:
            return look(it)
        why = f"the log server has no certificate yet ({controls.SERVER_GENUINE})"
        return Seen(problem="skipped", reason=why)

    return looked


CHECKS: Checks = {
    controls.SERVER: (_runs_expected, _with_certificate(_runs_seen)),
    controls.SERVER_OURS: (_ours_expected, _ours_seen),
    controls.LISTENING: (listening.expected, _with_certificate(listening.seen)),
    **{i: (expect, _with_certificate(look)) for i, (expect, look) in received.RUNNING.items()},
    **received.CHECKS,
    **certified.SERVER_CHECKS,
    **room.CHECKS,
}
