"""Makes a host what the checks expect. A configuration that a daemon does not take never replaces
the old one, and one with which they do not run goes again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from rocksalt import systemd
from rocksalt.errors import Refused
from rocksalt.host import Host, Ran
from rocksalt.ossec import (
    CONF,
    EVIDENCE,
    EXECD,
    GROUP,
    INSTALLED,
    KEYS,
    MASTERS,
    NOTE,
    OPTIONS,
    ORIGINALS,
    PROGRAM,
    RESPONSES,
    SETTINGS,
    STATE,
    STATUS,
    bans,
    controls,
    enrolment,
    facts,
    files,
    guarded,
    installed,
    repository,
    state,
    validating,
)
from rocksalt.ossec.facts import Facts
from rocksalt.transaction import ASIDE, Transaction, each, must, systemctl

_RESTART = 150.0
"""Seconds in which systemd starts the unit, for which it takes 90 itself, after it has ended."""
_PATIENCE, _FOR_SERVER, _TO_END = 45.0, 30.0, 5.0
"""Seconds in which the daemons start: they wait for each other for up to 33; in which a server
answers, which tries the next one after 20; and in which one ends.
"""


def enforce(host: Host, it: Facts, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``; raises :class:`Refused` with all that failed."""
    steps: list[Callable[[], object]] = []
    if controls.SIGNED in ids:
        steps.append(partial(_repository, host, it))
    if it.version:
        steps.append(partial(_written_down, host, it))
        steps += [partial(step, host, it) for i, step in _STEPS.items() if i in ids]
        if {*ids} & {controls.GUARDED, *_STARTS}:
            steps.append(partial(_start, host, it, ids))
        if controls.UNBANNED in ids:
            steps.append(partial(_unban, host, it))
        if controls.NOTED in ids:
            steps.append(partial(_note, host))
    elif it.declared.servers:
        why = f"{it.package} is not installed" if it.package else "no OSSEC agent is installed"
        steps.append(partial(_refuse, f"{why}, so there is nothing to enforce"))
    each(steps)


def _start(host: Host, it: Facts, ids: Sequence[str]) -> None:
    """Enrols and has the daemons run, unless they would ban whom they are told to."""
    if controls.GUARDED in ids and (why := guarded.unguarded(it)):
        raise Refused("; ".join([_disarm(host, it), *why]))
    if {*ids} & _STARTS:
        ready(it)
        steps = [partial(_enrol, host, it)] if controls.ENROLLED in ids else []
        each([*steps, partial(_take_effect, host, it, ids)])


def _disarm(host: Host, it: Facts) -> str:
    """Refuses responses in the configuration and ends their daemon, which lifts its bans then; what
    was done in words.
    """
    text, access = it.declared.disarmed(it.known()), installed.of(host, CONF)
    failure = ""
    try:
        _keys(host)
        if host.read(CONF) != text:
            validating.check(host, text, access)
            host.write(CONF, text, "0600")
            host.give(CONF, access)
    except (Refused, OSError) as error:
        failure = f", and {error}"
    if number := state.number(EXECD, host.root):
        host.run("/bin/sh", "-c", f"kill {number}")
        if not _wait(lambda: state.daemons(host.root)[EXECD] is None, _TO_END):
            failure += f", and {EXECD} does not end"
    return f"the agent is neither enrolled nor started, and no response runs{failure}"


def ready(it: Facts) -> None:
    """Raises :class:`Refused` where the agent must not be started."""
    if why := guarded.unguarded(it):
        raise Refused("; ".join(["the agent is not started before its guard stands", *why]))


def _refuse(why: str) -> None:
    raise Refused(why)


def _put(host: Host, path: str, text: str, access: str) -> None:
    if host.read(path) != text:
        host.write(path, text, "0600")
    host.give(path, access)


def _repository(host: Host, it: Facts) -> None:
    for path, text in repository.files(it.declared).items():
        _put(host, path, text, files.FOR_ALL)


def _written_down(host: Host, it: Facts) -> None:
    """Writes down how a new version was installed, before anything of ours is there. A record that
    was lost is not made anew of what nobody knows.
    """
    if installed.record(host).version != it.build and not it.lost:
        installed.write_down(host, it.build)


def _access(host: Host, it: Facts) -> None:
    """Gives everything its owner and mode."""
    now = installed.access(host)
    for path, access in installed.wanted_access(host).items():
        if now[path] != access:
            host.give(path, access)


def _own(host: Host, it: Facts) -> None:
    """Our program, and our scripts before those of the package."""
    for path, (text, access) in it.own().items():
        _put(host, path, text, access)
    names = [n for n in it.scripts() if guarded.script_state(host, n) != guarded.BEHIND_OURS]
    if not names:
        return
    folder = host.path(ORIGINALS)
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    host.give(ORIGINALS, f"root:{GROUP} 0750")
    each(partial(_stand_before, host, it, name) for name in names)


def _stand_before(host: Host, it: Facts, name: str) -> None:
    """Takes the package's script out of the server's reach, has the next upgrade put it there as
    well, and puts ours in its place. Killed at any point, it goes on from there.

    What is there and not the package's never becomes it.
    """
    path, original = f"{RESPONSES}/{name}", f"{ORIGINALS}/{name}"
    access = installed.record(host).access.get(path, installed.SCRIPT)
    if path not in guarded.diverted(host):
        words = ("--local", "--no-rename", "--divert", original, "--add", path)
        must(host, f"{path} cannot be diverted", "dpkg-divert", *words)
    genuine = partial(installed.genuine, host, it.package, it.build, name)
    strange = []
    if host.attributes(path, follow=False) and not files.is_wrapper(path, host.read(path)):
        there = host.attributes(original, follow=False) is not None
        if genuine(path) or (genuine(path) is None and not there):
            host.rename(path, original)
        else:
            strange.append(_as_evidence(host, path))
    if host.attributes(original, follow=False) and genuine(original) is False:
        strange.append(_as_evidence(host, original))
    host.write(path, files.wrapper(name), "0500")
    host.give(path, access)
    if host.read(original) is None:
        kept = f"; what was there is {' and '.join(strange)} now" if strange else ""
        raise Refused(f"{original} is gone: install the agent's package again{kept}")
    host.give(original, access)


def _as_evidence(host: Host, path: str) -> str:
    """Puts a script that is not the package's where nothing runs it; where that is."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    kept = f"{EVIDENCE}/{path.rpartition('/')[2]}.{stamp}"
    while host.attributes(kept, follow=False):
        kept += "+"
    host.path(EVIDENCE).mkdir(mode=0o700, parents=True, exist_ok=True)
    host.write(kept, host.read(path) or "", "0400")
    host.remove(path)
    return kept


def _no_commands(host: Host, it: Facts) -> None:
    """The local file wins over the package's own, and in it the first line."""
    local = OPTIONS[-1]
    lines = (host.read(local) or "").split("\n")
    key = "logcollector.remote_commands"
    kept = [line for line in lines if line.partition("=")[0].strip() != key]
    host.write(local, "\n".join([f"{key}=0", *kept]), "0600")
    host.give(local, installed.of(host, local))


def _enrol(host: Host, it: Facts) -> None:
    """Keeps a key to which a declared server answers; otherwise gets one."""
    if it.note.digest != (it.key.digest if it.key else "") and it.adoptable:
        enrolment.adopt(host, it.declared, it.status)
    elif why := enrolment.by_hand(it.declared, it.key, it.note):
        raise Refused(why)
    else:
        enrolment.enrol(host, it.declared, installed.of(host, KEYS))


_STEPS: dict[str, Callable[[Host, Facts], None]] = {
    controls.ACCESS: _access,
    controls.GUARDED: _own,
    controls.NO_COMMANDS: _no_commands,
}
_STARTS = {controls.RUNNING, controls.CONFIGURED, controls.ENROLLED, controls.NO_COMMANDS}


def _take_effect(host: Host, it: Facts, ids: Sequence[str]) -> None:
    """Puts the configuration in its place, and starts all daemons together: the one for responses
    and the one that speaks with the server lose each other otherwise.
    """
    access = installed.of(host, CONF)
    _keys(host)
    change, text, replaced = Transaction(host), it.render(), False
    try:
        if controls.CONFIGURED in ids and host.read(CONF) != text:
            validating.check(host, text, access)
            change.write(CONF, text, "0600")
            replaced = True
            host.give(CONF, access)
            validating.check_in_place(host)
        if enrolment.key(host.read(KEYS)) is None:
            return  # it has its configuration for the day when it gets a key
        restart(host, it)
    except (Refused, OSError) as error:
        back = _back(host, it, change, access) if replaced else ""
        raise Refused("; ".join(filter(None, (str(error), back)))) from None
    _wait(lambda: Facts(it.declared, host, time.time()).status["connected"], _FOR_SERVER)


def _keys(host: Host) -> None:
    """The test of a daemon needs the file, which may be empty."""
    if host.read(KEYS) is None:
        host.write(KEYS, "", "0600")
        host.give(KEYS, installed.of(host, KEYS))


def restart(host: Host, it: Facts) -> None:
    """Starts all daemons anew, and at boot; raises :class:`Refused` where one does not run then."""
    if not it.unit:
        raise Refused(f"there is no unit {' or '.join(facts.UNITS)} that starts the agent")
    systemctl(host, "--quiet", "enable", it.unit)
    ran = _restarted(host, it)
    if ran.status:
        raise Refused(f"systemctl restart {it.unit}: {' '.join((ran.err or ran.out).split())}")

    def runs() -> bool:
        running = state.daemons(host.root)
        return all(running[name] for name in it.needed)

    if not _wait(runs, _PATIENCE):
        dead = [name for name, started in state.daemons(host.root).items() if not started]
        raise Refused(f"{' and '.join(dead)} does not run: {_last_words(host)}")


def _restarted(host: Host, it: Facts) -> Ran:
    """Units with OSSEC's own script of System V start one daemon after the other."""
    return host.run("systemctl", "restart", it.unit, timeout=_RESTART)


def _last_words(host: Host) -> str:
    """What the log says of it."""
    errors = [line for line in state.log(host.root) if "ERROR" in line or "CRITICAL" in line]
    return errors[-1].strip() if errors else "its log says nothing"


def _back(host: Host, it: Facts, change: Transaction, access: str) -> str:
    """Puts the old configuration back, with which the daemons start again; how that went."""
    failures = change.undo()
    if host.attributes(CONF):
        host.give(CONF, access)
    if it.unit and enrolment.key(host.read(KEYS)):
        ran = _restarted(host, it)
        failures += [" ".join(ran.err.split())] if ran.status else []
    if failures:
        return f"and going back to the old configuration failed, too: {'; '.join(failures)}"
    return "the old configuration is back"


def _wait(ready: Callable[[], bool], seconds: float) -> bool:
    """Whether it becomes so in time."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _unban(host: Host, it: Facts) -> None:
    """Lifts what responses did; see :mod:`rocksalt.ossec.bans` for how that is told."""
    found = bans.unwanted(host, it.declared.never_ban)
    why = "{} and that cannot be lifted"
    lifts = [partial(must, host, why.format(ban), *ban.lift) for ban in found if ban.lift]
    each([*lifts, partial(_allow, host, found)])


def _allow(host: Host, found: Sequence[bans.Ban]) -> None:
    text = host.read(bans.HOSTS_DENY) or ""
    kept = bans.allowed(text, found)
    if kept != text:
        Transaction(host).write(bans.HOSTS_DENY, kept)


def _note(host: Host) -> None:
    """The timer, and a first status at once."""
    host.path(STATE).mkdir(mode=0o750, parents=True, exist_ok=True)
    for path, (text, access) in files.units().items():
        _put(host, path, text, access)
    systemctl(host, "daemon-reload")
    for path in systemd.overrides(host, files.units()):
        if f"/{files.UNIT}." in path:
            host.rename(path, path + ASIDE)
    systemctl(host, "daemon-reload")
    systemctl(host, "--quiet", "enable", f"{files.UNIT}.timer")
    systemctl(host, "restart", f"{files.UNIT}.timer")
    systemctl(host, "start", f"{files.UNIT}.service")


# What of ours is there ---------------------------------------------------------------------------


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host and :func:`clean` takes away. The agent goes on with its
    configuration and its key.
    """
    own = [SETTINGS, MASTERS, PROGRAM, *files.units(), STATUS, NOTE, INSTALLED]
    own += [repository.KEY, repository.SOURCES]
    found = [path for path in own if host.attributes(path, follow=False) is not None]
    return found + sorted({*guarded.diverted(host), *_taken_away(host)})


def _taken_away(host: Host) -> dict[str, str]:
    """Where a script of the package belongs -> where it is."""
    return {path.replace(ORIGINALS, RESPONSES, 1): path for path in host.glob(f"{ORIGINALS}/*")}


def clean(host: Host) -> None:
    """Takes it away; the package's scripts are where they were, and ban whom they are told to. Of
    one that was not diverted, as where we were killed, only the file goes back.
    """
    diverted = guarded.diverted(host)
    for path, original in sorted({**_taken_away(host), **diverted}.items()):
        if host.read(original) is not None:
            host.rename(original, path)
        elif files.is_wrapper(path, host.read(path)):
            host.remove(path)
        if path in diverted:
            words = ("--local", "--no-rename", "--remove", path)
            must(host, f"{path} stays diverted", "dpkg-divert", *words)
    with contextlib.suppress(OSError):  # what is none of ours stays there
        os.rmdir(host.path(ORIGINALS))
    host.run("systemctl", "disable", "--now", "--quiet", f"{files.UNIT}.timer")
    for path in leftovers(host):
        host.remove(path)
    host.run("systemctl", "daemon-reload")
