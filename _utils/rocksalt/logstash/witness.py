"""The witness of log servers: its account, its key, and what it signed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from rocksalt import logstash
from rocksalt.errors import Refused, RocksaltError
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.host import Host
from rocksalt.logstash import certified, controls, received, roles, room, server
from rocksalt.logstash.facts import Checks, Facts, read_json
from rocksalt.logstash.receiving import witness as receiving
from rocksalt.transaction import Transaction

LATE = 300
"""Seconds after which a log server that sends nothing is not witnessed any more."""
_KEYS = "authorized_keys"
"""Where sshd looks for the keys of the account, as of the last highstate."""
_GROUP, _ROOM = "in the group of the account", "free on the disk"


def files(it: Facts) -> dict[str, tuple[str, str]]:
    """Path -> content and access of what we write."""
    keys = {_KEYS: roles.witness_account(it.setup).file}
    text = roles.as_json({**roles.witness(it.setup), **keys})
    return {
        logstash.LOGS: (server.program_text(it.interpreter), server.PROGRAM_FILE),
        logstash.WITNESS_CONFIG: (text, f"root:{roles.witness_user(it.setup)} 0640"),
    }


# The comparison -----------------------------------------------------------------------------------


def _reached_expected(it: Facts) -> dict[str, Any]:
    own = {path: f"{AS_RENDERED}, {rights}" for path, (_, rights) in files(it).items()}
    return {**roles.witness_account(it.setup).expected(), **own}


def _reached_seen(it: Facts) -> Seen:
    actual = roles.witness_account(it.setup).seen(it.host)
    for path, (text, _) in files(it).items():
        rights = it.host.access(path)
        actual[path] = f"{compared(it.host.read(path), text)}, {rights}" if rights else None
    wanted = _reached_expected(it)
    why = [
        f"{name} {state or 'does not exist'}"
        for name, state in actual.items()
        if name != "beside it" and state != wanted[name]
    ]
    why += [f"{path} lies beside the keys of the account" for path in actual["beside it"]]
    return Seen(actual, some(why))


def _closed_expected(it: Facts) -> dict[str, Any]:
    return {**_rights(it), "open to others": [], _GROUP: "nobody"}


def _rights(it: Facts) -> dict[str, str]:
    user = roles.witness_user(it.setup)
    return {
        roles.witness(it.setup)["path"]: f"{user}:{user} 0750",
        logstash.WITNESS_KEY: f"ssh-ed25519, {user}:{user} 0600",
    }


def _closed_seen(it: Facts) -> Seen:
    own, user = roles.witness(it.setup), roles.witness_user(it.setup)
    actual: dict[str, Any] = {
        own["path"]: it.host.access(own["path"]),
        logstash.WITNESS_KEY: server.key_state(it.host, logstash.WITNESS_KEY),
    }
    wanted = _rights(it)
    why = [
        f"{path} {'is ' + have if have else 'does not exist'}, expected {wanted[path]}"
        for path, have in actual.items()
        if have != wanted[path]
    ]
    found = [f"{path} is {state}" for path, state in received.open_in(it.host, own["path"], user)]
    others = certified.strangers(it.host, user)
    actual |= {"open to others": found, _GROUP: ", ".join(others) or "nobody"}
    people = [f"{actual[_GROUP]} can read what was signed, by the group {user}"] if others else []
    remedy = "manual" if people and not why and not found else ""
    return Seen(actual, some([*why, *found, *people]), remedy=remedy)


def _witnessing_expected(it: Facts) -> dict[str, str]:
    found = dict.fromkeys(roles.witness(it.setup)["clients"], f"within {LATE // 60} minutes")
    return {**dict(sorted(found.items())), _ROOM: room.ENOUGH}


def _witnessing_seen(it: Facts) -> Seen:
    own = roles.witness(it.setup)
    try:
        found = receiving.seen(own, Path(it.host.root or "/"))
    except (RocksaltError, OSError) as error:
        return Seen(problem="error", reason=str(error))
    actual: dict[str, str] = {**_witnessing_expected(it), _ROOM: room.free(it, own["path"])}
    why = [room.why(own["path"], actual[_ROOM])] if actual[_ROOM] != room.ENOUGH else []
    for name in own["clients"]:
        known = found[name]
        age = it.age(known["received"])
        if known["refused"]:
            actual[name] = f"refused {known['refused']} times"
            path = f"{own['path']}/{name}/refused.jsonl"
            why.append(f"{name} sent what was not taken: read {path}, then put it away")
        elif age is None or age > LATE:
            actual[name] = f"not since {known['received']}" if known["received"] else "not yet"
            why.append(f"{name} is not witnessed, {actual[name]}")
    return Seen(actual, some(why))


CHECKS: Checks = {
    controls.WITNESS: (_reached_expected, _reached_seen),
    controls.WITNESS_CLOSED: (_closed_expected, _closed_seen),
    controls.WITNESSING: (_witnessing_expected, _witnessing_seen),
}


# The change ---------------------------------------------------------------------------------------


def put(host: Host, it: Facts, change: Transaction, ids: Collection[str]) -> None:
    """Writes what drifting controls ask for: account, files, folder and key. Nothing has to
    be started, for all is read at each session.
    """
    if not {*CHECKS} & {*ids}:
        return
    if found := roles.problems(it.setup):
        raise Refused("; ".join(found))
    account, own, user = (
        roles.witness_account(it.setup),
        roles.witness(it.setup),
        roles.witness_user(it.setup),
    )
    received.refuse_taken(host, own["path"], user, "witness")
    change.remember(account.file)
    account.make(host)
    for path, (text, rights) in files(it).items():
        server.write(host, change, path, text, rights)
    received.make_folder(host, own["path"], f"{user}:{user} 0750")
    received.close(host, own["path"], user)
    server.make_key(host, logstash.WITNESS_KEY, f"{user}:{user} 0600")


def leftovers(host: Host) -> list[str]:
    """What ``clean`` takes away. The key, the account and what was signed stay."""
    usual = f"{roles.WITNESS_HOME}/.ssh/authorized_keys"
    known = (read_json(host, logstash.WITNESS_CONFIG) or {}).get(_KEYS, usual)
    own = [logstash.WITNESS_CONFIG, str(known)]
    return [path for path in own if host.attributes(path, follow=False) is not None]


def clean(host: Host) -> None:
    """Takes it away."""
    for path in leftovers(host):
        host.remove(path)
