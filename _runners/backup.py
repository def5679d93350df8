"""
Backup of the Salt master: takes snapshots, checks and lists them, restores them.

.. code-block:: bash

    salt-run backup.plan
    salt-run backup.snapshot
    salt-run backup.verify

``state.apply hardening.backup`` sets everything up; see docs/backup.md. Each function returns a
dictionary. Exit codes: 0 fine, 1 failed, 4 done with warnings, 5 another run is at work, 6 a vault
cannot be reached, 7 something is not what was signed; ``reason`` says why in a sentence.

Of a snapshot, the event bus tells ``salt/backup/<instance>/start``, ``.../progress`` (every five
seconds), ``.../done`` and ``.../failed``; no event holds the name of a file, and neither does the
answer of a snapshot that was taken. Salt keeps each answer in its job cache: those of ``plan``,
``restore`` and ``status``, and the reason of a failure, do name paths.
"""

import dataclasses
import datetime as dt
import logging
import os
import sys
import time

import salt.utils.event
import salt.version

from rocksalt.backup import access, commands, config, progress
from rocksalt.backup import status as statuses
from rocksalt.backup.crypto import recipients
from rocksalt.backup.errors import FAILED, OK, BackupError
from rocksalt.backup.snapshots import snapshot, sources

log = logging.getLogger(__name__)

EVENT_EVERY = 5  # seconds between two events that tell of progress


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "backup: reads /proc and file attributes as only Linux has them"
    return True


def snapshot_(full=False, begin=False):
    """
    Takes a snapshot of this master and brings every vault up to date.

    full
        Pack everything although nothing changed since the last full snapshot. Also where the clock
        is more than 30 days ahead of the snapshot before, which is refused otherwise, and where
        the archives are as small, or as much changed, as you expect (BKP-017, BKP-018).
    begin
        Begin a chain where nobody can say that there is none: a vault that tells this master
        nothing, as a bucket for which it has no right to list, or one that is away. The first
        snapshot of a master with such a vault needs it once; vaults that answer that they are empty
        need nothing. A master that was rebuilt must go on instead: put the newest manifest and its
        .sig, which a verifying host reads, into the folder ``chain`` of the spool. Where there is a
        chain, it goes on.

    Returns ``{"instance", "sequence", "kind", "started", "finished", "next", "vaults", "archives",
    "warnings", "reason"}``; sizes in bytes, and the number of warnings, which are told by
    ``backup.status``. With ``retcode`` where it is not plainly fine.

    CLI Example:

    .. code-block:: bash

        salt-run backup.snapshot
        salt-run backup.snapshot full=True
        salt-run backup.snapshot begin=True
    """
    return _answer(_snapshot, bool(full), bool(begin))


def _snapshot(full, begin):
    settings = _settings()
    instance = settings["instance"]
    signer = access.signer(_path("signing"))
    secrets = access.credentials(_path("credentials.json"))
    opts = {**__opts__, "saltversion": salt.version.__version__}
    with _Events(instance) as events, access.vaults(settings, secrets) as vaults:
        events.fire("start", {})
        try:
            done = snapshot.take(
                opts, settings, vaults, signer, _now(), events.progress, full, _status_path(),
                begin,
            )  # fmt: skip
        except BackupError as error:
            events.fire("failed", {"code": error.code, "class": type(error).__name__})
            raise
        except Exception as error:
            events.fire("failed", {"code": FAILED, "class": type(error).__name__})
            raise
        told = {
            "code": done.code,
            "sequence": done.sequence,
            "kind": done.kind,
            "warnings": len(done.warnings),
            "vaults": {name: vault["sequence"] for name, vault in done.vaults.items()},
        }
        events.fire("done", told)
    value = dataclasses.asdict(done)
    del value["before"]
    if done.warnings and not done.reason:
        value["reason"] = "backup.status tells the warnings"
    return {"instance": instance, **value, "warnings": len(done.warnings)}


def plan():
    """
    What a snapshot would hold, what not and why: nothing is written.

    Returns ``{"parts": {part: {"roots": {path: {"why", "files", "bytes"}}, "files", "bytes",
    "size"}}, "excluded": {path: why}, "missing": {path: why}}``. ``missing`` is what the master's
    options name and nobody finds: each is a warning of every snapshot.

    CLI Example:

    .. code-block:: bash

        salt-run backup.plan
    """
    return _answer(_plan)


def _plan():
    found = sources.plan(__opts__, _settings())
    parts = {}
    for part in found.parts:
        roots = [entry for entry in found.included if entry.part == part.name]
        size = sum(entry.bytes for entry in roots)
        parts[part.name] = {
            "roots": {
                entry.path: {"why": entry.why, "files": entry.files, "bytes": entry.bytes}
                for entry in roots
            },
            "files": sum(entry.files for entry in roots),
            "bytes": size,
            "size": progress.size(size),
        }
    return {"parts": parts, "excluded": dict(found.excluded), "missing": dict(found.missing)}


def verify(vaults=None, quick=False):
    """
    Checks what is in the vaults against what was signed, without any key that decrypts.

    vaults
        Names of vaults, as a list or separated by commas; all when left out. Only a check of all is
        noted in the status.
    quick
        Compare the sizes of archives and do not read them.

    Returns ``{"time", "code", "vaults": {name: {"ok", "problems", "snapshots", "newest",
    "unwitnessed_since", ...}}, "problems": [between the vaults]}``.

    CLI Example:

    .. code-block:: bash

        salt-run backup.verify
        salt-run backup.verify vaults=far quick=True
    """
    return _answer(_verify, vaults, bool(quick))


def _verify(vaults, quick):
    with _meter() as meter:
        return commands.check(
            _settings(), _secrets(), _now(), not quick, _listed("vaults", vaults), meter,
            _path("signing"), _status_path(),
        )  # fmt: skip


def list_(vault=""):
    """
    The snapshots in a vault.

    vault
        The name of the vault; the first that answers when left out.

    Returns ``{"vault", "snapshots": {sequence: {"started", "kind", "files", "bytes", "size",
    "warnings"}}, "problems": [sentences]}``.

    CLI Example:

    .. code-block:: bash

        salt-run backup.list
        salt-run backup.list far
    """
    return _answer(lambda: commands.listed(_settings(), _secrets(), str(vault), _path("signing")))


def show(snapshot=None, vault=""):
    """
    One snapshot, by its manifest.

    snapshot
        Its number, or a time such as ``2026-11-22T13:00:00Z`` for the newest begun by then; the
        newest of all when left out.
    vault
        The name of the vault; the first that answers when left out.

    Returns the manifest, with the archives of the full snapshot that it leads to.

    CLI Example:

    .. code-block:: bash

        salt-run backup.show 12
        salt-run backup.show 2026-11-22T13:00:00Z vault=far
    """
    return _answer(
        lambda: commands.shown(_settings(), _secrets(), snapshot, str(vault), _path("signing"))
    )


def restore(identity, target, snapshot=None, vault="", paths=None, parts=None, in_place=False):
    """
    Restores a snapshot to a folder of its own, or in place.

    identity
        The path of a file with an age identity, or several. It must not stay on this host.
    target
        A folder that does not exist or is empty. With ``in_place`` archives lie there meanwhile.
    snapshot
        Its number, or a time such as ``2026-11-22T13:00:00Z``; the newest when left out.
    vault
        The name of the vault; the first that answers when left out.
    paths
        Absolute paths: nothing else is restored.
    parts
        ``operator`` or ``customer-NAME``: nothing else is restored.
    in_place
        Everything takes its own place; what is there is moved aside.

    Returns ``{"sequence", "target", "files", "bytes", "tops", "moved", "missing", "problems"}``.

    CLI Example:

    .. code-block:: bash

        salt-run backup.restore /media/usb/identity /root/restored
        salt-run backup.restore /media/usb/identity /root/restored paths=/etc/salt/pki snapshot=12
    """
    return _answer(
        _restore, identity, str(target), snapshot, str(vault), paths, parts, bool(in_place)
    )


def _restore(identity, target, snapshot, vault, paths, parts, in_place):
    with _meter() as meter:
        return commands.restored(
            _settings(), _secrets(), _listed("identity", identity), target, snapshot, vault,
            _listed("paths", paths), _listed("parts", parts), in_place, meter, _path("signing"),
        )  # fmt: skip


def status():
    """
    What the last snapshot, check and drill did, as agents read it.

    CLI Example:

    .. code-block:: bash

        salt-run backup.status
    """
    return _answer(_status)


def _status():
    found = statuses.read(_status_path())
    if not found:
        raise BackupError(f"no snapshot was taken yet: there is no {_status_path()}")
    return found


def record():
    """
    The record of who can read the snapshots, for the offline key to sign.

    Returns ``{"record": text, "sign": how}``; what is signed is the text, with its last line end.

    CLI Example:

    .. code-block:: bash

        salt-run backup.record --out=json | jq -j .record > record.json
    """
    return _answer(_record)


def _record():
    try:
        settings = config.load(_config())
    except BackupError as error:
        raise BackupError(f"{error}; salt-call backup.record prints it by the pillar") from None
    how = (
        f"ssh-keygen -Y sign -f authority -n {recipients.NAMESPACE} record.json, on the host with"
        " the offline key; the content of record.json.sig goes into"
        " hardening:backup:authorisation"
    )
    return {"record": recipients.record_bytes(settings).decode("ascii"), "sign": how}


def drill():
    """
    Refuses: a drill needs an identity, which must never be on a master.

    CLI Example:

    .. code-block:: bash

        salt-run backup.drill
    """
    reason = (
        "a drill needs an identity, which must never be on the master: run rocksalt-backup drill on"
        " the host that hardening:backup:drill is set for"
    )
    return {"reason": reason, "retcode": FAILED}


class _Events:
    """Tells the event bus and the terminal how a snapshot gets on."""

    def __init__(self, instance):
        self._tag = f"salt/backup/{instance}/"
        self._last = 0.0

    def __enter__(self):
        self._meter = progress.Meter(sys.stderr)
        self._bus = salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False)
        return self

    def __exit__(self, *details):
        self._meter.close()
        self._bus.destroy()

    def fire(self, what, data):
        try:
            self._bus.fire_event(data, self._tag + what)
        except Exception as error:  # a master that is down is backed up all the same
            log.debug("no event %s%s: %s", self._tag, what, error)

    def progress(self, step):
        self._meter(step)
        if time.monotonic() - self._last >= EVENT_EVERY:
            self._last = time.monotonic()
            self.fire("progress", dataclasses.asdict(step))


class _meter:
    """Shows progress on the terminal until the end."""

    def __enter__(self):
        self._meter = progress.Meter(sys.stderr)
        return self._meter

    def __exit__(self, *details):
        self._meter.close()


def _answer(function, *arguments):
    """What a function returns, with Salt's key for the exit code. It never raises: Salt would take
    a TypeError for wrong arguments, with exit code 0.
    """
    try:
        value = function(*arguments)
    except BackupError as error:
        log.error("%s", error)
        return {"reason": str(error), "retcode": error.code}
    except Exception as error:
        log.exception("backup")
        return {"reason": f"{type(error).__name__}: {error}", "retcode": FAILED}
    return value if value.get("code", OK) == OK else {**value, "retcode": value["code"]}


def _listed(name, value):
    """A list of texts, or one text written with commas."""
    items = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise BackupError(f"{name}: {value!r} is neither a list of texts nor one with commas")
    return [item.strip() for item in items]


def _now():
    return dt.datetime.now(dt.timezone.utc)


def _config():
    return __opts__.get("rocksalt_backup") or config.PATH


def _path(name):
    return os.path.join(os.path.dirname(_config()), name)


def _status_path():
    return __opts__.get("rocksalt_backup_status") or statuses.PATH


def _settings():
    settings = config.load(_config())
    if not settings["master"]:
        raise BackupError("hardening:backup:master is false: no master is backed up from here")
    return settings


def _secrets():
    return access.credentials(_path("credentials.json"))


__func_alias__ = {"list_": "list", "snapshot_": "snapshot"}
