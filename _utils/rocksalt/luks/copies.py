"""Second copies of headers, encrypted: without its header, nobody reads a disk again.

A copy is what ``cryptsetup luksHeaderRestore`` takes, without what is left of former key slots,
compressed and encrypted to those who may restore it::

    age -d -i identity COPY.age | gunzip > header.img
    cryptsetup luksHeaderRestore /dev/... --header-backup-file header.img

The copy of the header as it was before the last change stays beside it, as ``UUID.1.age``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from rocksalt.backup.crypto import age
from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.luks import config, headers, image

FOLDER = f"{config.STATE}/headers"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Copy:
    """One copy: of which header (``digest`` is that of :class:`headers.Header`, ``material`` is
    :func:`image.material`), when it was made (UTC), by whom it can be read (fingerprints, sorted),
    and hash and size of the encrypted file. ``volume`` and ``customer`` are empty for headers of
    the operator. ``kept`` is where and when a copy of the same header for the same readers was last
    seen off this host: ``{"where", "time"}``, or empty.
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
    material: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The encrypted file."""
        return f"{FOLDER}/{self.uuid}.age"

    def damaged(self, material: Mapping[str, str]) -> str:
        """In words, that key slots are no longer what they were when this copy was made although
        the header says the same of them; empty where they are.
        """
        if all(material.get(said, held) == held for said, held in self.material.items()):
            return ""
        return (
            f"key slots in its header are damaged since {self.time}: restore the header from the "
            f"copy of that day, or take {_record(self.uuid)} away if it is the copy that is wrong"
        )


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
    :class:`Refused` where there is no header, or it changes meanwhile, or key slots are no longer
    what they were although the header says the same of them: a copy may be all that is left.
    """
    found = _header(host, device, header)
    if not UUID.fullmatch(found.uuid):
        raise Refused(f"{device}: its header has the UUID {found.uuid!r}, which is none")
    if not recipients:
        raise Refused(f"{device}: nobody is named who may restore its header")
    taken = _image(host, found.file)
    if _header(host, device, header).digest != found.digest:
        raise Refused(f"{device}: its header changed while it was copied; try again")
    before, material = _noted(host, found.uuid), image.material(taken)
    if before and (words := before.damaged(material)):
        raise Refused(f"{device}: {words}")
    sealed = _sealed(taken, recipients)
    copy = Copy(
        uuid=found.uuid, device=device, digest=found.digest, time=_text(now), volume=volume,
        recipients=tuple(sorted(map(age.fingerprint, recipients))), customer=customer,
        sha256=hashlib.sha256(sealed).hexdigest(), size=len(sealed), material=material,
    )  # fmt: skip
    same = before is not None and before.digest == copy.digest
    if before and same and before.recipients == copy.recipients:
        copy = replace(copy, kept=before.kept)
    _folder(host)
    if before and not same:
        _put_aside(host, before)
    host.write(copy.path, sealed.decode(errors="surrogateescape"), "0600")
    _note(host, copy)
    return copy


def _put_aside(host: Host, copy: Copy) -> None:
    """Keeps a copy that is to be replaced, unless it is damaged."""
    data = _content(host, copy)
    if data is not None:
        aside = f"{FOLDER}/{copy.uuid}.1"
        host.write(f"{aside}.age", data.decode(errors="surrogateescape"), "0600")
        host.write(f"{aside}.json", _as_text(copy), "0600")


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
    writer.write(image.packed(header))
    writer.close()
    return buffer.getvalue()


def material(host: Host, header: headers.Header) -> dict[str, str]:
    """:func:`image.material` of a header; :class:`Refused` where it cannot be read."""
    return image.material(_image(host, header.file))


def _copy(host: Host, path: str) -> Copy | None:
    """What a record says, if the file is as it says."""
    copy = _noted(host, os.path.basename(path).removesuffix(".json"))
    return copy if copy and _content(host, copy) is not None else None


def _noted(host: Host, uuid: str) -> Copy | None:
    """The record of a copy, None where there is none or it is damaged."""
    try:
        value = json.loads(host.read(_record(uuid)) or "")
        copy = Copy(**{**value, "recipients": tuple(value["recipients"])})
        return copy if UUID.fullmatch(copy.uuid) and copy.uuid == uuid else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _content(host: Host, copy: Copy) -> bytes | None:
    """The encrypted file, None where it is not the one that the record is of."""
    try:
        data = host.path(copy.path).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == copy.sha256 else None


def _note(host: Host, copy: Copy) -> None:
    host.write(_record(copy.uuid), _as_text(copy), "0600")


def _as_text(copy: Copy) -> str:
    return json.dumps(asdict(copy), indent=1, sort_keys=True) + "\n"


def _record(uuid: str) -> str:
    return f"{FOLDER}/{uuid}.json"


def _folder(host: Host) -> None:
    for path in (config.STATE, FOLDER):
        host.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)


def _text(now: dt.datetime) -> str:
    return now.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
