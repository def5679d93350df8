"""Who can read the snapshots, and the signature of the offline key that says so.

The record is what :func:`record_bytes` gives and ``backup.record`` prints; the owner of the
authority signs it on a host that is never online::

    ssh-keygen -Y sign -f authority -n rocksalt-recipients record.json
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocksalt import schema
from rocksalt.backup import names
from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.manifest import canonical

NAMESPACE = "rocksalt-recipients"
FORMAT = 1

_KEYS: dict[str, Any] = {"type": "list", "items": {"type": "string"}, "min": 1, "required": True}
_SPEC: dict[str, Any] = {
    "type": "mapping",
    "fields": {
        "format": {"type": "integer", "min": FORMAT, "max": FORMAT, "required": True},
        "instance": {"type": "string", "pattern": names.INSTANCE.pattern, "required": True},
        "revision": {"type": "integer", "min": 1, "required": True},
        "recipients": _KEYS,
        "escrow": {"type": "string", "required": True},
        "customers": {"type": "mapping", "values": _KEYS, "required": True},
    },
}


def record(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Format, instance, revision, recipients (sorted), escrow, and customers: name -> recipients
    (sorted). The paths of the customers are not in it.
    """
    return {
        "format": FORMAT,
        "instance": settings["instance"],
        "revision": settings["revision"],
        "recipients": sorted(settings["recipients"]),
        "escrow": settings["escrow"],
        "customers": {
            name: sorted(customer["recipients"]) for name, customer in settings["customers"].items()
        },
    }


def record_bytes(settings: Mapping[str, Any]) -> bytes:
    """The record as it is signed."""
    return canonical(record(settings))


def authorised(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record of these settings, once the authority's signature on it has been verified;
    :class:`Unverified` says how to sign it.
    """
    value = record(settings)
    try:
        verify(value, settings["authorisation"], settings["authority"])
    except BackupError as error:
        raise Unverified(
            f"hardening:backup:authorisation: {error}. Sign it: salt-run backup.record prints the"
            f" record; save it as record.json, run ssh-keygen -Y sign -f authority -n {NAMESPACE}"
            " record.json on the host with the offline key, and put the content of record.json.sig"
            " into hardening:backup:authorisation"
        ) from None
    return value


def verify(record: Mapping[str, Any], authorisation: str, authority: str) -> None:
    """Whether the authority signed a record; :class:`Unverified` says why not."""
    what = f"revision {record.get('revision')} of the recipients"
    found = schema.problems(dict(record), _SPEC, what)
    if found:
        raise Unverified("; ".join(found))
    signature = authorisation.strip().encode(errors="replace") + b"\n"
    try:
        sshsig.verify(canonical(record), signature, NAMESPACE, [authority])
    except Unverified as error:
        raise Unverified(f"{what} {error}") from None


def of(settings: Mapping[str, Any], part: str) -> list[str]:
    """The recipients (``age1...``) of a part: ``operator`` or ``customer-NAME``;
    :class:`BackupError` if there is no such customer. Takes settings and records.
    """
    if part == names.OPERATOR:
        return sorted(settings["recipients"])
    customer = settings["customers"].get(part.removeprefix(names.CUSTOMER))
    if customer is None or not part.startswith(names.CUSTOMER):
        raise BackupError(f"{part} has no recipients: hardening:backup:customers names no such one")
    return sorted(customer["recipients"] if isinstance(customer, Mapping) else customer)


def parts(record: Mapping[str, Any]) -> dict[str, list[str]]:
    """The archives of a full snapshot: part -> fingerprints of those who can read it, sorted."""
    owners = [names.OPERATOR, *(names.CUSTOMER + name for name in sorted(record["customers"]))]
    return {part: fingerprints(record, part) for part in owners}


def fingerprints(settings: Mapping[str, Any], part: str) -> list[str]:
    """The fingerprints of the recipients of a part, sorted, as a manifest holds them."""
    return sorted(map(age.fingerprint, of(settings, part)))
