"""The running NRPE: what it started on, where it listens, what strangers get, and what it may."""

from __future__ import annotations

from typing import Any

from rocksalt import nrpe
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.nrpe import config, controls, reading, tls
from rocksalt.nrpe.facts import Checks, Facts
from rocksalt.pki import certificates

AFTER, CERTIFIED = "after its files were written", "the one on the disk"
_IN_SANDBOX = {**config.SANDBOX, "no new privileges": True, "system calls filtered": True}


def _service_seen(it: Facts) -> Seen:
    unit, found = it.reading.unit, it.reading
    actual = {
        "now": unit.get("ActiveState", "unknown"),
        "at boot": unit.get("UnitFileState") or "not there",
    }
    if found.listening and not found.process:
        places = some([str(place) for place in found.listening])
        return Seen(
            actual, f"a NRPE that {nrpe.UNIT} did not start listens on {places}", "", "manual"
        )
    return Seen(actual)


def _current_expected(it: Facts) -> dict[str, str]:
    command = " ".join(config.COMMAND_LINE)
    return {"started": AFTER, "certificate": CERTIFIED, "command": command}


def _current_seen(it: Facts) -> Seen:
    found, why = it.reading, []
    started = AFTER
    later = [
        path
        for path in (nrpe.CONFIG, nrpe.DROP_IN, *reading.FILES)
        if (at := found.attributes[path]) and found.started and at.changed > found.started
    ]
    if later:
        started = f"before {', '.join(later)}"
        why.append(f"NRPE was not started since {', '.join(later)} changed")
    shown, certificate = it.answers.certificate, CERTIFIED
    if shown != certificates.fingerprint(found.certificates.chain[0]):
        certificate = f"another one ({shown[:16]})" if shown else "none"
        why.append(f"the running NRPE shows {certificate}, not what is in {nrpe.CERTIFICATE}")
    command = " ".join(found.process.command) if found.process else ""
    if command != " ".join(config.COMMAND_LINE):
        why.append(f"it runs as {command!r}")
    actual = {"started": started, "certificate": certificate, "command": command}
    return Seen(actual, some(why))


def _address_seen(it: Facts) -> Seen:
    found = it.reading.listening
    if found is None:
        return Seen(problem="error", reason="ss, which lists the sockets of this host, fails")
    why = [f"NRPE listens on {place}" for place in found if place != it.place]
    why += [f"NRPE does not listen on {it.place}"] if it.place not in found else []
    return Seen(list(found), some(why))


def _secured_expected(it: Facts) -> dict[str, str]:
    ways = ("without a certificate", "TLS 1.1 or older", "anonymous TLS", "without TLS")
    return dict.fromkeys(ways, tls.REFUSED)


def _secured_seen(it: Facts) -> Seen:
    said = it.answers
    outcomes = (said.without_certificate, said.old_tls, said.anonymous, said.plain)
    actual = dict(zip(_secured_expected(it), outcomes, strict=True))
    if said.without_certificate == tls.CLOSED and said.plain == tls.REFUSED:
        ended = (
            f"NRPE ends a connection from {it.address}, which is this host, before TLS: by its "
            "allowed_hosts, or by /etc/hosts.deny, which may shut out monitoring hosts as well"
        )
        return Seen(actual, ended)
    untold = [f"{way}: {out}" for way, out in actual.items() if out.startswith(tls.UNTOLD)]
    why = [f"{way}: {out}" for way, out in actual.items() if out != tls.REFUSED]
    if untold == why and untold:
        return Seen(problem="error", reason=some(untold))
    return Seen(actual, some(why))


def _heard_expected(it: Facts) -> dict[str, Any]:
    return {"allowed_hosts": it.allowed, "a stranger is": tls.NOT_HEARD}


def _heard_seen(it: Facts) -> Seen:
    """By the file, and by an address of this host that is not on the list."""
    text = it.reading.texts[nrpe.CONFIG] or ""
    if others := config.others(text):
        return Seen(problem="error", reason=f"{nrpe.CONFIG} has NRPE read {some(others)} as well")
    found = config.heard(text)
    stranger = it.answers.stranger
    actual = {"allowed_hosts": found, "a stranger is": stranger or tls.NOT_HEARD}
    why = [f"{entry} is heard" for entry in found if entry not in it.allowed]
    why += [f"{entry} is not heard" for entry in it.allowed if entry not in found]
    if not found:
        why = ["everybody is heard"]
    if it.answers.without_certificate == tls.SILENT:
        return Seen({**actual, "a stranger is": tls.SILENT}, f"NRPE does not answer on {it.place}")
    if stranger and stranger.startswith(tls.UNTOLD) and not why:
        return Seen(problem="error", reason=f"whether a stranger is heard {stranger}")
    why += ["127.0.0.1 or ::1 is heard although it is not allowed"] if stranger == tls.HEARD else []
    return Seen(actual, some(why))


def _sandbox_expected(it: Facts) -> dict[str, Any]:
    return {nrpe.DROP_IN: AS_RENDERED, "as on disk": True, **_IN_SANDBOX}


def _sandbox_seen(it: Facts) -> Seen:
    unit, process = it.reading.unit, it.reading.process
    actual: dict[str, Any] = {
        nrpe.DROP_IN: compared(it.reading.texts[nrpe.DROP_IN], config.drop_in()),
        "as on disk": unit.get("NeedDaemonReload", "no") == "no",
        **{key: unit.get(key) for key in config.SANDBOX},
        "no new privileges": process.no_new_privileges if process else True,
        "system calls filtered": process.filtered if process else True,
    }
    return Seen(actual)


def _account_expected(it: Facts) -> dict[str, Any]:
    return {"user": nrpe.USER, "group": nrpe.USER, "other groups": [], "capabilities": False}


def _account_seen(it: Facts) -> Seen:
    process = it.reading.process or reading.Process()
    actual = {
        "user": process.user,
        "group": process.group,
        "other groups": list(process.groups),
        "capabilities": process.capabilities,
    }
    others = {**actual, "other groups": []}
    by_hand = process.groups and others == _account_expected(it)
    why = f"{nrpe.USER} is in the groups {', '.join(process.groups)}" if by_hand else ""
    return Seen(actual, why, remedy="manual" if by_hand else "")


CHECKS: Checks = {
    controls.SERVICE: (lambda it: {"now": "active", "at boot": "enabled"}, _service_seen),
    controls.CURRENT: (_current_expected, _current_seen),
    controls.ADDRESS: (lambda it: [it.place], _address_seen),
    controls.SECURED: (_secured_expected, _secured_seen),
    controls.HEARD: (_heard_expected, _heard_seen),
    controls.SANDBOX: (_sandbox_expected, _sandbox_seen),
    controls.ACCOUNT: (_account_expected, _account_seen),
}
