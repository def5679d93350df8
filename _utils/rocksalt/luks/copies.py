"""Second copies of headers, encrypted: without its header, nobody reads a disk again.

A copy is what ``cryptsetup luksHeaderRestore`` takes, without what is left of former key slots,
compressed and encrypted to those who may restore it::

    age -d -i identity COPY.age | gunzip > header.img
    cryptsetup luksHeaderRestore /dev/... --header-backup-file header.img
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from rocksalt.backup.crypto import age
from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.luks import config, headers, image

FOLDER = f"{config.STATE}/headers"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Copy:
    """One copy: of which header (``digest`` is that of :class:`headers.Header`), when it was made
    (UTC), by whom it can be read (fingerprints, sorted), and hash and size of the encrypted file.
    ``volume`` and ``customer`` are empty for headers of the operator. ``kept`` is where and when
    the same file was last seen off this host: ``{"where", "time"}``, or empty.
    """

    uuid: str
    device: str
    digest: str
    time: str
    recipients: tuple[str, ...]
    sha256: str
    size: int
    volume: str = ""
    customer: str = ""
    kept: dict[str, str] | None = None

    @property
    def path(self) -> str:
        """The encrypted file."""
        return f"{FOLDER}/{self.uuid}.age"


def back_up(
    host: Host,
    device: str,
    recipients: Sequence[str],
    now: dt.datetime,
    *,
    volume: str = "",
    customer: str = "",
    header: str = "",
) -> Copy:
    """Makes the copy of a device's header (of the file ``header`` where it is detached), which only
    ``recipients`` (age1...) can read. It takes the place of an older one at once or not at all.
    :class:`Refused` where there is no header, or it changes meanwhile.
    """
    found = _header(host, device, header)
    if not UUID.fullmatch(found.uuid):
        raise Refused(f"{device}: its header has the UUID {found.uuid!r}, which is none")
    if not recipients:
        raise Refused(f"{device}: nobody is named who may restore its header")
    sealed = _sealed(_image(host, found.file), recipients)
    if _header(host, device, header).digest != found.digest:
        raise Refused(f"{device}: its header changed while it was copied; try again")
    copy = Copy(
        uuid=found.uuid, device=device, digest=found.digest, time=_text(now), volume=volume,
        recipients=tuple(sorted(map(age.fingerprint, recipients))), customer=customer,
        sha256=hashlib.sha256(sealed).hexdigest(), size=len(sealed),
    )  # fmt: skip
    _folder(host)
    host.write(copy.path, sealed.decode(errors="surrogateescape"), "0600")
    _note(host, copy)
    return copy


def of_volume(host: Host, volume: config.Volume, now: dt.datetime) -> Copy:
    """Makes the copy of the header of a volume, which only its customer can read."""
    return back_up(
        host, volume.device, volume.customer.recipients, now,
        volume=volume.name, customer=volume.customer.name,
    )  # fmt: skip


def renewed(
    host: Host, settings: config.Settings, volume: config.Volume, now: dt.datetime
) -> list[str]:
    """Makes the copy anew if the header of a volume is another by now, and copies are wanted. What
    was done before is done, so that a failure is a sentence of what is given.
    """
    if not settings["header_backups"]:
        return []
    try:
        found = _header(host, volume.device, "")
        copy = copies(host).get(found.uuid)
        if copy is None or copy.digest != found.digest:
            of_volume(host, volume, now)
    except (RocksaltError, OSError) as error:
        return [f"the copy of the header is not made anew: {error}"]
    return []


def copies(host: Host) -> dict[str, Copy]:
    """The copies on this host by UUID. What is damaged is none."""
    found = (_copy(host, path) for path in host.glob(f"{FOLDER}/*.json"))
    return {copy.uuid: copy for copy in found if copy is not None}


def content(host: Host, uuid: str) -> bytes:
    """The encrypted file; :class:`Refused` where there is none, or it is not what was written."""
    copy = copies(host).get(uuid)
    if copy is None:
        raise Refused(f"there is no copy of a header with the UUID {uuid!r} in {FOLDER}")
    return host.path(copy.path).read_bytes()


def note_kept(host: Host, uuid: str, sha256: str, where: str, now: dt.datetime) -> bool:
    """Notes that the file with this hash is kept elsewhere; False where that is no longer the copy
    of today.
    """
    copy = copies(host).get(uuid)
    if copy is None or copy.sha256 != sha256:
        return False
    _note(host, replace(copy, kept={"where": where, "time": _text(now)}))
    return True


def _header(host: Host, device: str, header: str) -> headers.Header:
    found = headers.read(host, device, header or None)
    if found is None:
        raise Refused(f"{header or device}: has no header of LUKS")
    return found


def _image(host: Host, path: str) -> bytes:
    try:
        with open(host.path(path), "rb") as file:
            return image.take(file)
    except Refused as error:
        raise Refused(f"{path}: {error}") from None
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror}") from None


def _sealed(header: bytes, recipients: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    writer = age.Writer(buffer, recipients)
    writer.write(gzip.compress(header, mtime=0))
    writer.close()
    return buffer.getvalue()


def _copy(host: Host, path: str) -> Copy | None:
    """What a record says, if the file is as it says."""
    try:
        value = json.loads(host.read(path) or "")
        copy = Copy(**{**value, "recipients": tuple(value["recipients"])})
        if not UUID.fullmatch(copy.uuid) or path != _record(copy.uuid):
            return None
        data = host.path(copy.path).read_bytes()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    same = hashlib.sha256(data).hexdigest() == copy.sha256
    return copy if same else None


def _note(host: Host, copy: Copy) -> None:
    text = json.dumps(asdict(copy), indent=1, sort_keys=True)
    host.write(_record(copy.uuid), text + "\n", "0600")


def _record(uuid: str) -> str:
    return f"{FOLDER}/{uuid}.json"


def _folder(host: Host) -> None:
    for path in (config.STATE, FOLDER):
        host.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)


def _text(now: dt.datetime) -> str:
    return now.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
