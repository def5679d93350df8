"""An authority on the master: a key that signs certificates of hosts, and the list of all that it
signed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import ipaddress
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.pki import certificates, naming

_A_YEAR = 365
_MOST_NAMES = 20
_EARLIER = dt.timedelta(minutes=10)
"""Clocks differ a little."""


@dataclass(frozen=True)
class Entry:
    """One certificate that was signed; times as ``2026-11-22T00:00:00Z``, and as ``address`` what
    it is for beside the name, with commas between. It is ``outside`` where nobody's minion asked.
    """

    serial: str
    role: str
    name: str
    address: str
    issued: str
    expires: str
    sha256: str
    outside: bool = False


def folder_of(runner: str) -> str:
    """Where the authority is that a runner asks, such as ``monitoring``."""
    return f"/etc/rocksalt/{runner}-ca"


class Authority:
    """The authority of a ``runner``, in a folder; :class:`Refused` where there is none or it is
    damaged.
    """

    def __init__(self, host: Host, runner: str, folder: str = ""):
        self.host = host
        self.runner = runner
        self.folder = folder = folder or folder_of(runner)
        text, key = host.read(f"{folder}/ca.pem"), host.read(f"{folder}/ca.key")
        if text is None or key is None:
            raise Refused(f"there is no authority in {folder} yet: salt-run {runner}.authority")
        self.certificate = certificates.load_one(text, f"{folder}/ca.pem")
        self._key = certificates.load_key(key, f"{folder}/ca.key")
        if not certificates.fits(self.certificate, self._key):
            raise Refused(f"{folder}/ca.key is not the key of {folder}/ca.pem")

    @property
    def text(self) -> str:
        """Its certificate in PEM."""
        return certificates.pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate."""
        return certificates.fingerprint(self.certificate)

    def days(self, now: dt.datetime) -> int:
        """How long a certificate is valid where nobody says it."""
        return min(_A_YEAR, certificates.days_left(self.certificate, now))

    def issued(self) -> list[Entry]:
        """All that was signed, oldest first."""
        path = f"{self.folder}/issued.jsonl"
        try:
            lines = (self.host.read(path) or "").splitlines()
            return [Entry(**json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            raise Refused(f"{path} is damaged: put it back from a backup") from None

    def server(self, request: str, minion: str, days: int, now: dt.datetime) -> x509.Certificate:
        """A certificate for a server of a minion, whose request has to be for its id and one
        address, which no other minion holds.
        """
        asked, what = _asked(request, minion)
        address = _address(asked, minion, what)
        return self._serve(asked, minion, [address], days, now)

    def service(
        self, request: str, minion: str, allowed: Collection[str], days: int, now: dt.datetime
    ) -> x509.Certificate:
        """The same with all names and addresses of the request. Each has to be the minion's id or
        one of ``allowed``, and none may be another minion's, however it is spelled.
        """
        asked, what = _asked(request, minion)
        names = certificates.names(asked)
        if len(names) > _MOST_NAMES:
            raise Refused(f"{what} is for {len(names)} names; {_MOST_NAMES} are the most")
        if stars := [name for name in names if "*" in name]:
            raise Refused(f"{what} is for {', '.join(stars)}; ask for names without a star")
        for name in names:
            naming.refuse_odd(name, what)
        known = {minion, *map(naming.plain, allowed)}
        if others := [it for it in names if not {it, naming.plain(it)} & known]:
            raise Refused(
                f"{what} is for {', '.join(others)}; its pillar, as the master renders it, has "
                f"{', '.join([minion, *allowed])}"
            )
        others = [name for name in dict.fromkeys(names) if name != minion]
        return self._serve(asked, minion, others, days, now)

    def member(self, request: str, minion: str, days: int, now: dt.datetime) -> x509.Certificate:
        """A certificate by which a minion shows who it is; its request has to be for its id."""
        asked, what = _asked(request, minion)
        if certificates.names(asked) != [minion]:
            names = ", ".join(certificates.names(asked))[:300]
            raise Refused(f"{what} is for {names}; it needs {minion} alone")
        return self.client(asked.public_key(), minion, days, now)

    def _serve(
        self, asked: certificates.Request, minion: str, others: Sequence[str], days: int,
        now: dt.datetime,
    ) -> x509.Certificate:  # fmt: skip
        _refuse_weak(asked.public_key(), f"the request of {minion}")
        with lock(self.host, self.folder):
            self._refuse_taken(others, minion, now)
            return self._sign(certificates.SERVER, asked.public_key(), minion, others, days, now)

    def _refuse_taken(
        self, names: Sequence[str], minion: str, now: dt.datetime, outside: bool = False
    ) -> None:
        """Nobody gets a name that another holds, nor a minion and what is none each other's. A
        minion's own id is taken only by one whose id TLS does not tell from it.
        """
        wanted = {naming.plain(name): name for name in names}
        for entry in self.issued():
            same = entry.name == minion and entry.outside == outside
            if same or entry.expires <= stamp(now):
                continue
            own = naming.plain(entry.name)
            served = entry.address.split(", ") if entry.role == certificates.SERVER else []
            taken = {*wanted} & {own, *map(naming.plain, served)}
            if found := sorted(taken or {own} & {naming.plain(minion)}):
                raise Refused(
                    f"the request of {minion} is for {wanted.get(found[0], minion)}, for which "
                    f"{entry.name} has a certificate until {entry.expires}; salt-run "
                    f"{self.runner}.forget {entry.name} if it is gone"
                )

    def outsider(self, key: Any, name: str, days: int, now: dt.datetime) -> x509.Certificate:
        """A certificate for a server that is no minion, of its public key."""
        _refuse_weak(key, f"the key of {name}")
        with lock(self.host, self.folder):
            self._refuse_taken([name], name, now, outside=True)
            return self._sign(certificates.SERVER, key, name, (), days, now, outside=True)

    def client(self, key: Any, name: str, days: int, now: dt.datetime) -> x509.Certificate:
        """A certificate for a client, of its public key."""
        _refuse_weak(key, f"the key of {name}")
        with lock(self.host, self.folder):
            self._refuse_taken((), name, now)
            return self._sign(certificates.CLIENT, key, name, (), days, now)

    def forget(self, name: str, now: dt.datetime) -> list[str]:
        """Takes what was signed for a name off the list of what is in use, so that another host may
        have its address; the serial numbers. There is no list of revoked certificates.
        """
        with lock(self.host, self.folder):
            known = self.issued()
            gone = [it.serial for it in known if it.name == name and it.expires > stamp(now)]
            changed = [
                Entry(**{**vars(it), "expires": stamp(now)}) if it.serial in gone else it
                for it in known
            ]
            self._note(changed)
        return gone

    def _sign(
        self, role: str, key: Any, name: str, others: Sequence[str], days: int, now: dt.datetime,
        outside: bool = False,
    ) -> x509.Certificate:  # fmt: skip
        end = now + dt.timedelta(days=days)
        if days < 1 or end > certificates.expires(self.certificate):
            last = f"{certificates.expires(self.certificate):%Y-%m-%d}"
            raise Refused(f"days: {days} is less than 1 or ends after the authority, on {last}")
        for each in (name, *others):
            naming.refuse_odd(each, f"the certificate of {name}")
        made = (
            x509.CertificateBuilder()
            .subject_name(certificates.subject(name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([certificates.USAGES[role]]), critical=True)
            .add_extension(certificates.alternative(name, *others), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        entry = Entry(
            certificates.serial(made), role, name, ", ".join(others), stamp(now), stamp(end),
            certificates.fingerprint(made), outside,
        )  # fmt: skip
        self._note([*self.issued(), entry])
        return made

    def _note(self, entries: list[Entry]) -> None:
        text = "".join(json.dumps(vars(entry), sort_keys=True) + "\n" for entry in entries)
        self.host.write(f"{self.folder}/issued.jsonl", text, "0600")


def make(host: Host, name: str, days: int, now: dt.datetime, folder: str) -> bool:
    """Makes an authority in a folder unless one is there; whether it was made. It may sign nothing
    but the certificates of hosts.
    """
    with lock(host, folder):
        found = [path for path in ("ca.key", "ca.pem") if host.read(f"{folder}/{path}") is not None]
        if len(found) == 2:
            return False
        if found and (found != ["ca.key"] or host.read(f"{folder}/issued.jsonl") is not None):
            raise Refused(f"{folder} has {found[0]} alone: put the other back from a backup")
        key = ec.generate_private_key(ec.SECP384R1())
        owner = certificates.subject(name)
        made = (
            x509.CertificateBuilder()
            .subject_name(owner)
            .issuer_name(owner)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        host.write(f"{folder}/ca.key", certificates.key_pem(key), "0600")
        host.write(f"{folder}/ca.pem", certificates.pem(made), "0644")
    return True


def _asked(request: str, minion: str) -> tuple[certificates.Request, str]:
    """A request of a minion for its own id, and what it is called."""
    what = f"the request of {minion}"
    asked = certificates.load_request(request, what)
    if certificates.common_name(asked) != minion or minion not in certificates.names(asked):
        raise Refused(f"{what} is for {certificates.common_name(asked)!r}, not for the minion")
    return asked, what


def _address(asked: certificates.Request, minion: str, what: str) -> str:
    names = certificates.names(asked)
    others = {name for name in names if name != minion} | {*certificates.addresses(asked)}
    try:
        (address,) = (ipaddress.ip_address(name) for name in others)
    except ValueError:
        raise Refused(f"{what} is for {', '.join(names)}; it needs one address") from None
    naming.refuse_odd(str(address), what)
    return str(address)


def _refuse_weak(key: Any, what: str) -> None:
    if problems := list(certificates.key_problems(key, what)):
        raise Refused("; ".join(problems))


def _key_usage(**chosen: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: chosen.get(name, False) for name in names})


def stamp(time: dt.datetime) -> str:
    """A time as our files have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def lock(host: Host, folder: str) -> Iterator[None]:
    """Nobody else changes the authority meanwhile."""
    target = host.path(folder)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
