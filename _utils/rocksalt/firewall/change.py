"""The armed change: rules that undo themselves unless new connections show that nobody is cut off.

A transient systemd unit outside of the minion's control group holds the way back. It is started
before the first rule changes and stopped after the confirmation, so a run may be killed at any
moment. Only confirmed rules go to disk: a reboot meanwhile boots the old ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt.errors import Refused
from rocksalt.firewall import INPUT, OUTPUT, RUN, VERSIONS, files, sockets, tables
from rocksalt.host import Host

UNIT = files.ROLLBACK
ARMED = f"{RUN}/armed.json"
SCRIPT = f"{RUN}/rollback"
EVENT = "rocksalt/firewall/armed"
_EVERY = 0.1
_RESERVE = 3.0
_OURS = r"^(:|-A )(INPUT|FORWARD|OUTPUT|DOCKER-USER|rocksalt-(input|forward|output|docker))( |$)"
_COUNTERS = r" \[[0-9:]+\]$"

# Undoes a transaction that took place; one that did not leaves the table as `before` says. Where
# that fails, somebody else changed the rules: then packets are led to the emergency rules.
_ROLLBACK = """#!/bin/sh
set -u
umask 077
shape() {{ "$1-save" -t filter | sed -nE 's/{counters}//; /{ours}/p'; }}
lead() {{ "$1" --wait 10 --check "$2" --jump "$3" || "$1" --wait 10 --insert "$2" 1 --jump "$3"; }}
for version in 4 6; do
    if [ $version = 4 ]; then program=iptables; else program=ip6tables; fi
    [ -e {run}/back.v$version ] || continue
    [ "$(shape $program)" = "$(cat {run}/before.v$version)" ] && continue
    $program-restore --noflush --wait 10 <{run}/back.v$version && continue
    echo "the old IPv$version rules cannot be loaded: {only_administrators}" >>{run}/why
    $program-restore --noflush --wait 10 <{run}/emergency.v$version
    lead $program INPUT {input}
    lead $program OUTPUT {output}
done
mkdir -p {mark_folder}
cat {run}/why >{mark}
logger --priority auth.crit --tag rocksalt-firewall "$(cat {run}/why)"
rm -f {armed} {run}/back.v4 {run}/back.v6
systemctl --no-block stop {unit}.timer || :
"""
_ONLY_ADMINISTRATORS = "only administrators are let in"


@dataclass(frozen=True)
class Witness:
    """Who shows that a change cuts nobody off: ``masters`` (address, port) that must be reachable
    by new connections, and a new connection from ``management`` to one of ``ssh_ports``.

    ``call`` asks the master to make it, with the event's data; None where there is no master.
    """

    masters: Sequence[tuple[str, int]] = ()
    ssh_ports: Sequence[int] = ()
    management: Sequence[str] = ()
    call: Callable[[Mapping[str, Any]], object] | None = None


@contextlib.contextmanager
def lock(host: Host) -> Iterator[None]:
    """One run at a time; the second is refused instead of waiting for a minute."""
    path = host.path(f"{RUN}/lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another run changes the firewall at this moment") from None
        yield


def pending(host: Host) -> dict[str, Any] | None:
    """The change that awaits confirmation: ``{until, known}``; None when there is none."""
    text = host.read(ARMED)
    if text is None:
        return None
    states = host.run("systemctl", "is-active", f"{UNIT}.timer", f"{UNIT}.service").out.split()
    if not {"active", "activating"} & set(states):
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def refuse_while_pending(host: Host) -> None:
    """A second change would take the first one's way back. Where somebody stopped the clock of an
    unconfirmed one, that is undone first.
    """
    found = pending(host)
    if found is None and host.read(ARMED) is not None:
        host.run("/bin/sh", str(host.path(SCRIPT)))
    if found:
        clock = time.strftime("%H:%M:%S", time.localtime(found["until"]))
        raise Refused(
            f"a change of the firewall awaits confirmation until {clock}: "
            "log in anew from a management address and run firewall.confirm, or wait"
        )


def make(
    host: Host,
    plans: Mapping[int, tables.Plan],
    emergency: Mapping[int, Mapping[str, Sequence[str]]],
    seconds: int,
    witness: Witness,
) -> None:
    """Puts the plans into force for IPv4 and IPv6, and keeps them only when the ``witness`` shows
    within so many ``seconds`` that the host can be reached. Raises :class:`Refused` after the old
    rules are back.
    """
    reachable = [master for master in witness.masters if not _unreachable(master)]
    if witness.masters and not reachable:
        address, port = witness.masters[0]
        raise Refused(f"the master {address}:{port} cannot be reached, so it cannot confirm")
    until = time.time() + seconds
    _arm(host, plans, emergency, seconds, witness.ssh_ports)
    try:
        for version, plan in plans.items():
            if plan:
                tables.apply(host, version, plan.text)
        _note(host, until, witness.ssh_ports)
        _confirmed(host, reachable, seconds, witness)
    except (Refused, OSError) as error:
        raise Refused(f"{error}; {roll_back(host, str(error))}") from None
    disarm(host)


def _arm(
    host: Host,
    plans: Mapping[int, tables.Plan],
    emergency: Mapping[int, Mapping[str, Sequence[str]]],
    seconds: int,
    ports: Sequence[int],
) -> None:
    """Everything that the way back needs is in place, and its clock runs."""
    for version in VERSIONS:
        host.remove(f"{RUN}/back.v{version}")
        if plans.get(version):
            host.write(f"{RUN}/back.v{version}", plans[version].undo, "0600")
            host.write(f"{RUN}/before.v{version}", _shape(host, version), "0600")
            host.write(
                f"{RUN}/emergency.v{version}", tables.restore_text(emergency[version]), "0600"
            )
    why = "a change of the firewall was not confirmed in time and was undone"
    host.write(f"{RUN}/why", f"{why}\n", "0600")
    host.write(SCRIPT, _script(), "0700")
    _note(host, time.time() + seconds, ports)
    host.run("systemctl", "reset-failed", f"{UNIT}.service")
    ran = host.run(
        *("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--on-active={seconds}"),
        *("--timer-property=AccuracySec=100ms", "--service-type=oneshot"),
        *("/bin/sh", SCRIPT),  # many hosts have /run mounted noexec
    )
    if ran.status:
        host.remove(ARMED)
        raise Refused(f"nothing was changed, for it could not be undone: {ran.err.strip()}")
    host.remove(files.ROLLED_BACK)


def _script() -> str:
    return _ROLLBACK.format(
        run=RUN,
        unit=UNIT,
        armed=ARMED,
        mark=files.ROLLED_BACK,
        mark_folder=os.path.dirname(files.ROLLED_BACK),
        counters=_COUNTERS,
        ours=_OURS,
        input=INPUT,
        output=OUTPUT,
        only_administrators=_ONLY_ADMINISTRATORS,
    )


def _shape(host: Host, version: int) -> str:
    """The chains that a change is about, without counters, as the rollback script reads them."""
    lines = host.run(f"{tables.PROGRAMS[version]}-save", "-t", "filter").out.splitlines()
    return "".join(f"{re.sub(_COUNTERS, '', line)}\n" for line in lines if re.search(_OURS, line))


def _note(host: Host, until: float, ports: Sequence[int]) -> None:
    """Which connections there are, so that those that come later are told apart."""
    known = sorted(sockets.connected(host, ports)) if ports else []
    host.write(ARMED, json.dumps({"until": until, "known": known}), "0600")


def roll_back(host: Host, why: str) -> str:
    """Starts the way back now, unless its clock was faster, and says how it went. A clock is only
    stopped after the way back.
    """
    if host.read(files.ROLLED_BACK) is None:
        host.write(f"{RUN}/why", f"a change of the firewall was undone: {why}\n", "0600")
        ran = host.run("systemctl", "start", f"{UNIT}.service", timeout=60)
        if host.read(files.ROLLED_BACK) is None:
            said = " ".join(ran.err.split())
            return f"going back cannot be started now ({said}), it is left to the clock"
        host.run("systemctl", "stop", f"{UNIT}.timer")
    if _ONLY_ADMINISTRATORS in (host.read(files.ROLLED_BACK) or ""):
        return f"going back failed, {_ONLY_ADMINISTRATORS}"
    return "the old rules are back"


def disarm(host: Host) -> None:
    """The change stays: the clock is stopped before anything is written to disk. Raises
    :class:`Refused` when the clock was faster.
    """
    ran = host.run("systemctl", "stop", f"{UNIT}.timer")
    if pending(host):
        said = " ".join(ran.err.split()) or "it is under way"
        raise Refused(f"the way back cannot be stopped: {said}")
    _refuse_if_undone(host)
    for name in (ARMED, *(f"{RUN}/back.v{version}" for version in VERSIONS)):
        host.remove(name)


def _refuse_if_undone(host: Host) -> None:
    if host.read(files.ROLLED_BACK) is not None:
        raise Refused("it was not confirmed in time")


# Confirmation --------------------------------------------------------------------------------


def _unreachable(master: tuple[str, int], timeout: float = 3.0) -> str:
    """Why a new connection does not come about; empty when it does."""
    try:
        socket.create_connection(master, timeout=timeout).close()
    except OSError as error:
        return str(error)
    return ""


def _confirmed(
    host: Host, masters: Iterable[tuple[str, int]], seconds: int, witness: Witness
) -> None:
    """Returns when every connection that has to work was made anew; raises when one was not."""
    deadline = time.monotonic() + seconds - _RESERVE
    for master in masters:
        problem = _unreachable(master)
        if problem:
            raise Refused(
                f"a new connection to the master {master[0]}:{master[1]} fails: {problem}"
            )
    if not witness.ssh_ports:
        return
    if witness.call:
        witness.call(_invitation(masters, seconds, witness))
    else:
        host.run("wall", f"rocksalt: log in anew over ssh within {seconds} seconds to confirm a "
                 "change of the firewall, or it is undone")  # fmt: skip
    while not newcomers(host, witness):
        if host.read(ARMED) is None:
            _refuse_if_undone(host)
            break  # by firewall.confirm
        if time.monotonic() > deadline:
            raise Refused(
                f"nobody from {', '.join(witness.management)} opened a new connection to port "
                f"{', '.join(map(str, witness.ssh_ports))} within {seconds} seconds"
            )
        time.sleep(_EVERY)


def _invitation(
    masters: Iterable[tuple[str, int]], seconds: int, witness: Witness
) -> dict[str, Any]:
    """What the master needs to know to connect: our addresses as it sees them, and the ports."""
    addresses = []
    for master in masters:
        with contextlib.suppress(OSError), socket.create_connection(master, timeout=3) as new:
            addresses.append(new.getsockname()[0])
    return {
        "addresses": list(dict.fromkeys(addresses)),
        "ports": list(witness.ssh_ports),
        "until": time.time() + seconds,
    }


def newcomers(host: Host, witness: Witness) -> set[sockets.Connection]:
    """Connections from management to sshd that did not exist when the change came into force; none
    when no change is armed.
    """
    text = host.read(ARMED)
    if text is None:
        return set()
    known = [tuple(entry) for entry in json.loads(text)["known"]]
    now = sockets.connected(host, witness.ssh_ports)
    return sockets.new_since(now, witness.management, known)


def confirm(host: Host, witness: Witness) -> str:
    """Confirms the pending change by hand, from a session that was opened after it; what was
    confirmed, in words.
    """
    if pending(host) is None:
        raise Refused("no change of the firewall awaits confirmation")
    new = newcomers(host, witness)
    if not new:
        raise Refused(
            "every connection from management is older than the change: log in anew, then confirm"
        )
    disarm(host)
    return f"confirmed by the new connection from {min(new)[2]}"
