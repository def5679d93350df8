"""Makes fail2ban what the checks expect, as one transaction: tested by fail2ban itself, put into
force, asked, or undone. Bans outlive it, for they are in the database.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Sequence

from rocksalt import fail2ban
from rocksalt.errors import Refused
from rocksalt.fail2ban import checks, config, jails, reading, rules
from rocksalt.firewall.tables import PROGRAMS
from rocksalt.host import Host
from rocksalt.transaction import DISABLED, Transaction

_PATIENCE = 15.0


def enforce(host: Host, it: checks.Fail2ban, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``. Raises :class:`Refused` after everything was put back as it
    was.
    """
    for jail in it.declared:
        problem = checks.missing_filter(it, jail)
        if problem:
            raise Refused(problem)
    for path, access in it.wrong_access().items() if checks.PRIVATE in ids else ():
        user, group, mode = access.replace(":", " ").split()
        host.secure(path, user, group, mode)
    change, told = Transaction(host), False
    try:
        _change(host, it, change)
        _must(host, "fail2ban does not accept its configuration", fail2ban.CLIENT, "-t")
        told = True
        _take_effect(host, it, ids)
    except (Refused, OSError) as error:
        raise Refused(f"{error}; {_back(host, change, told)}") from None


def _change(host: Host, it: checks.Fail2ban, change: Transaction) -> None:
    """Our files first, then the lines of others that beat them."""
    for path, text in it.render().items() if checks.FILES in it.wanted else ():
        attributes = host.attributes(path)
        if it.reading.texts[path] != text or not attributes or attributes.mode != "0600":
            change.write(path, text, "0600")
    lines = it.overruling() if checks.OVERRULED in it.wanted else []
    for path in dict.fromkeys(line.path for line in lines):
        change.write(
            path, _disabled(host.read(path) or "", (li for li in lines if li.path == path))
        )


def _disabled(text: str, lines: Iterable[config.Line]) -> str:
    rows = text.split("\n")
    for line in lines:
        for number in range(line.number, line.last + 1):
            rows[number - 1] = DISABLED + rows[number - 1]
    return "\n".join(rows)


def _take_effect(host: Host, it: checks.Fail2ban, ids: Sequence[str]) -> None:
    """A reload where that is enough. It would leave the rules of an action that changed where they
    were, so then, and where rules are missing, fail2ban starts anew.
    """
    if checks.SERVICE in it.wanted:
        if not it.reading.enabled:
            enable = ("systemctl", "--quiet", "enable", fail2ban.UNIT)
            _must(host, f"{fail2ban.UNIT} cannot be enabled", *enable)
    elif not it.reading.active:
        return
    again = {checks.SERVICE, checks.IN_FORCE, jails.ACTION, jails.MEMORY} & set(ids)
    if again or not _reloaded(host, it):
        restart(host, (jail.name for jail in it.declared))
    if not _wait(lambda: _runs(host, it)):
        raise Refused("fail2ban does not run the declared jails")
    _wait(lambda: _bans(host, it))


def _reloaded(host: Host, it: checks.Fail2ban) -> bool:
    """Whether a reload made every jail what it should be."""
    if host.run(fail2ban.CLIENT, "reload").status:
        return False
    found = checks.Fail2ban(it.baseline, reading.read(host), host)
    seen, expected = found.seen(), found.expected()
    return all(seen[i].actual == expected[i] for i in (checks.CURRENT, *checks.OF_JAILS))


def restart(host: Host, names: Iterable[str] = ()) -> None:
    """Stops fail2ban, takes away what the running jails, and those of ``names``, left in the packet
    filter, and starts it; it bans anew whom its database has. Left-overs would let a ban go on that
    was lifted. systemd does it all, so a run that is killed meanwhile leaves fail2ban running.
    """
    jails = sorted({*names, *reading.running(host).jails})
    steps = [f"systemctl stop {fail2ban.UNIT}"]
    for version, chains in reading.packet_filter(host).items():
        tool = f"{PROGRAMS[version]} -w"
        jumps = (shlex.split(f"{chain} {rule}") for chain, rule in rules.jumps(chains, jails))
        steps += [f"{tool} -D {shlex.join(jump)} 2>/dev/null" for jump in jumps]
        for jail in jails:
            steps += [f"{tool} {option} f2b-{jail} 2>/dev/null" for option in ("-F", "-X")]
    steps += [f"systemctl reset-failed {fail2ban.UNIT}", f"systemctl start {fail2ban.UNIT}"]
    command = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", "sh", "-c")
    _must(host, f"{fail2ban.UNIT} does not start", *command, "\n".join(steps))


def _runs(host: Host, it: checks.Fail2ban) -> bool:
    """Whether every declared jail runs."""
    found = reading.running(host)
    return not found.problem and all(jail.name in found.jails for jail in it.declared)


def _bans(host: Host, it: checks.Fail2ban) -> bool:
    """Whether every ban that the server remembers is in force again."""
    return not reading.late(reading.running(host), reading.packet_filter(host))


def _wait(ready: Callable[[], bool]) -> bool:
    """Whether it becomes so in time."""
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _back(host: Host, change: Transaction, told: bool) -> str:
    """Undoes a change and says how that went. A server that was not told of it runs on, perhaps
    better than its files would.
    """
    failures = change.undo()
    if told:
        ran = host.run("systemctl", "restart", fail2ban.UNIT)
        failures += [reading.complaint(ran)] if ran.status else []
    if failures:
        return f"and going back to the old configuration failed, too: {'; '.join(failures)}"
    return "the old configuration is back"


def _must(host: Host, failure: str, *command: str) -> None:
    ran = host.run(*command)
    if ran.status:
        raise Refused(f"{failure}: {reading.complaint(ran)}")


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host: its files, and the files of others in which it disabled
    lines.
    """
    own = [path for path in (fail2ban.JAILS, fail2ban.SERVER) if host.read(path) is not None]
    return own + _with_disabled_lines(host)


def clean(host: Host) -> None:
    """Takes it away again; disabled lines of others come back, the database stays."""
    change, told = Transaction(host), False
    try:
        for path in _with_disabled_lines(host):
            text = host.read(path) or ""
            change.write(path, "\n".join(li.removeprefix(DISABLED) for li in text.split("\n")))
        for path in (fail2ban.JAILS, fail2ban.SERVER):
            change.remove(path)
        if reading.unit(host)[0]:
            _must(host, "fail2ban does not accept what is left", fail2ban.CLIENT, "-t")
            told = True
            restart(host)
    except (Refused, OSError) as error:
        raise Refused(f"{error}; {_back(host, change, told)}") from None


def _with_disabled_lines(host: Host) -> list[str]:
    paths = [
        path for kind in ("jail", "fail2ban") for path in config.in_reading_order(kind, host.glob)
    ]
    return [path for path in paths if DISABLED in (host.read(path) or "")]
