"""How the agent gets the key by which a server knows it: once, from ``agent-auth``, whose exit code
proves nothing. What counts is the key that is there afterwards, and its name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.ossec import BIN, KEYS, NOTE, TOP, state
from rocksalt.ossec.declared import Declared
from rocksalt.settings import SECRET

_PATIENCE = 90
_HINTS = {
    "Unable to connect": "nothing answers there",
    "Invalid agent name": "the server does not take the name",
    "Invalid IP address": "the server has an agent of this address already; remove it there",
    "Unable to add agent": "the server cannot take another agent",
    "Unable to create key": "the password is wrong, or the server does not take this host",
    "SSL error": "TLS failed: the certificate of one side does not convince the other",
    "Invalid password": "the password is wrong",
}


@dataclass(frozen=True)
class Key:
    """The first entry of ``client.keys``, which is the one that counts, without the secret itself:
    ``digest`` tells it from others.
    """

    number: str
    name: str
    digest: str


@dataclass(frozen=True)
class Note:
    """What we wrote down when this host enrolled: with which server, under which name, whether the
    server's certificate was verified, and the digest of the key that came. Without a digest the
    attempt was broken off; ``before`` is that of the key which was there then, and ``old`` what was
    written down of it.
    """

    server: str = ""
    name: str = ""
    verified: bool = False
    digest: str = ""
    before: str = ""
    old: Mapping[str, Any] = field(default_factory=dict)


def key(text: str | None) -> Key | None:
    """The key in the text of ``client.keys``; None where there is none."""
    for line in (text or "").splitlines():
        words = line.split()
        if line[:1] not in ("", "#", " ") and len(words) == 4:
            return Key(words[0], words[1], hashlib.sha256(line.encode()).hexdigest())
    return None


def note(host: Host) -> Note:
    """What was written down; an attempt that was killed counts after its key had come, and what was
    written before it until then.
    """
    written = _known(state.read(str(host.path(NOTE))))
    there = key(host.read(KEYS))
    if written.old and not written.digest and there and there.digest == written.before:
        return _known(written.old)
    if written.server and not written.digest and there and there.digest != written.before:
        return Note(written.server, written.name, written.verified, there.digest)
    return written


def _known(found: Mapping[str, Any]) -> Note:
    return Note(**{name: found[name] for name in Note.__dataclass_fields__ if name in found})


def faults(it: Declared, there: Key | None, written: Note) -> list[str]:
    """Why this host is not enrolled as it should be; empty when it is."""
    if there is None:
        return ["this host has never enrolled"]
    if there.digest != written.digest:
        return [f"{KEYS} is not the key that came when this host enrolled"]
    found = []
    if written.server not in it.servers:
        found.append(f"this host enrolled with {written.server}, which is not declared any more")
    if written.name != it.name:
        found.append(f"this host enrolled as {written.name}, and shall be {it.name}")
    elif there.name != it.name:
        found.append(
            f"the server gave it the name {there.name}, for it has another {it.name}: remove that "
            "there, then run ossec.enrol"
        )
    return found


def by_hand(it: Declared, there: Key | None, written: Note) -> str:
    """Why only a person can help; empty where enrolling again does."""
    if there and written.name == it.name != there.name and there.digest == written.digest:
        return "the server has another agent of this name"
    if SECRET in (it.settings["password"], it.settings["enrolment_key"]):
        return "the secrets for enrolment are only known while the master is there"
    if not it.settings["password"] and not it.settings["enrolment_certificate"]:
        return f"{TOP}:password and enrolment_certificate are empty, so it cannot enrol by itself"
    return next(_expired(it), "")


def _expired(it: Declared) -> Iterator[str]:
    """Which of the certificates that enrolling needs has expired; what is none is a problem of the
    settings.
    """
    for key in ("enrolment_ca", "enrolment_certificate"):
        with contextlib.suppress(ValueError, IndexError):
            end = _end(x509.load_pem_x509_certificates(it.settings[key].encode())[0])
            if end < dt.datetime.now(dt.timezone.utc):
                yield f"the certificate {TOP}:{key} expired on {end:%Y-%m-%d}; renew it"


def _end(certificate: x509.Certificate) -> dt.datetime:
    """Until when it is valid; older versions of the library say it without the zone."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=dt.timezone.utc)


def adoptable(it: Declared, there: Key | None, status: Mapping[str, Any]) -> bool:
    """Whether a declared server answers to the key that is there under this host's name."""
    named = there is not None and there.name == it.name
    return named and bool(status.get("connected")) and status.get("server") in it.servers


def adopt(host: Host, it: Declared, status: Mapping[str, Any]) -> None:
    """Takes a key that is :func:`adoptable` for ours, as on a host that enrolled before there was a
    baseline.
    """
    there = key(host.read(KEYS))
    digest = there.digest if there else ""
    _write(host, Note(str(status["server"]), it.name, False, digest))


def enrol(host: Host, it: Declared, access: str) -> Key:
    """Enrols with the first server. ``access`` is what ``client.keys`` gets, for agent-auth leaves
    it open to what its umask allows.

    Raises :class:`Refused` with what the server said where no new key came; the old one is still
    there then. The secrets are never in it, in an argument, or on a disk.
    """
    if SECRET in (it.settings["password"], it.settings["enrolment_key"]):
        raise Refused(by_hand(it, None, Note()))
    for why in _expired(it):
        raise Refused(why)
    server, old = it.servers[0], key(host.read(KEYS))
    verified, written = bool(it.settings["enrolment_ca"]), note(host)
    attempt = Note(
        server,
        it.name,
        verified,
        "",
        old.digest if old else "",
        vars(written) if written.digest else {},
    )
    _write(host, attempt)
    with contextlib.ExitStack() as stack:
        given = {
            option: stack.enter_context(_file(host, text)) for option, text in _options(it).items()
        }
        command = (f"{BIN}/agent-auth", "-m", server, "-p", str(it.settings["enrolment_port"]))
        options = [
            word for option, number in given.items() for word in (option, f"/dev/fd/{number}")
        ]
        ran = host.run(
            *command, "-A", it.name, *options, timeout=_PATIENCE, files=[*given.values()]
        )
    new = key(host.read(KEYS))
    if new is None or (old and new.digest == old.digest):
        said = f"{ran.out}\n{ran.err}"
        why = next((words for sign, words in _HINTS.items() if sign in said), "")
        why = why or "the server closed the connection; a wrong password ends like that"
        _write(host, written)
        raise Refused(f"{server} did not enrol this host: {why}")
    owner, group, mode = access.replace(":", " ").split()
    host.secure(KEYS, owner, group, mode)
    _write(host, Note(server, it.name, attempt.verified, new.digest))
    if old and old.number != new.number:
        host.remove(f"/var/ossec/queue/rids/{old.number}")
    return new


def _write(host: Host, found: Note) -> None:
    host.write(NOTE, json.dumps(vars(found), indent=1) + "\n", "0600")


def _options(it: Declared) -> dict[str, str]:
    """Option of agent-auth -> what is in the file that it names. The password is without the line
    end that would be sent as a part of it.
    """
    found = {
        "-v": it.settings["enrolment_ca"],
        "-x": it.settings["enrolment_certificate"],
        "-k": it.settings["enrolment_key"],
        "-P": it.settings["password"],
    }
    return {option: text for option, text in found.items() if text}


@contextlib.contextmanager
def _file(host: Host, text: str) -> Iterator[int]:
    """An open file in memory that has no name, so it is gone with whoever has it open, also where
    that is killed.
    """
    folder = host.path("/run")
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(text.encode())
        file.flush()
        yield file.fileno()
