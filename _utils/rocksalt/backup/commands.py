"""What people and timers ask for: check, list, show, restore, try out. The runner and the program
``rocksalt-backup`` both answer with what these functions return: JSON, with times in UTC and sizes
in bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksalt.backup import access, config, errors, names, status
from rocksalt.backup import progress as telling
from rocksalt.backup.access import Side
from rocksalt.backup.errors import BackupError, Unreachable, VaultError
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.progress import Step
from rocksalt.backup.proof import verify
from rocksalt.backup.proof.verify import Problem, Report
from rocksalt.backup.restoring import drill, fetch
from rocksalt.backup.restoring import restore as restoring
from rocksalt.backup.snapshots.spool import Spool
from rocksalt.backup.vaults import Vault, opening, reports

Settings = Mapping[str, Any]
Secrets = opening.Credentials

_WORST = (
    errors.UNVERIFIED, errors.FAILED, errors.UNREACHABLE, errors.WARNINGS, errors.OK,
)  # fmt: skip


def check(
    settings: Settings,
    secrets: Secrets,
    now: dt.datetime,
    deep: bool = True,
    vaults: Sequence[str] = (),
    progress: telling.Progress = telling.silent,
    key: str = config.SIGNING_KEY,
    status_path: str = status.PATH,
) -> dict[str, Any]:
    """Checks what the vaults hold, and notes it in the status unless only some were asked for.

    ``deep`` reads every archive. Returns ``{"time", "code", "vaults": {name: {"code", "problems",
    "snapshots", "newest", ...}}, "problems": [between the vaults]}``. A check that could look at no
    vault with archives has failed, unless each is a bucket that a drill host looks at.
    """
    sides = access.sides(settings, vaults, key)
    before = status.section("verify", settings["instance"], status_path).get("vaults", {})
    found: dict[str, dict[str, Any]] = {}
    looks: dict[str, list[_Look]] = {}
    for side in sides:
        last = before.get(side.name, {})
        try:
            with access.opened(side, secrets) as vault:
                look = _checked(vault, side, now, deep, _known(settings, side, last), progress)
                _note_drill(vault, side, look.report, now, settings["instance"], status_path)
        except (BackupError, OSError) as error:
            found[side.name] = _failure(error, last, _put_only(settings, side, error))
        else:
            looks.setdefault(side.pins.instance, []).append(look)
    between: list[Problem] = []
    for same in looks.values():
        reports = verify.vouched([look.report for look in same])
        between += verify.across(reports)
        for look, report in zip(same, reports, strict=True):
            found[report.vault] = _told(report, look)
    codes = {_code(between), *(entry["code"] for entry in found.values())}
    kept = [found[side.name] for side in sides if side.archives]
    blind = kept and not any("snapshots" in entry for entry in kept)
    if blind and codes <= {errors.OK, errors.WARNINGS} and not settings["drill_keys"]:
        codes.add(errors.FAILED)
    result = {
        "time": names.utc(now),
        "code": next(code for code in _WORST if code in codes),
        "vaults": found,
        "problems": list(map(dataclasses.asdict, between)),
    }
    if not vaults:
        status.update("verify", result, settings["instance"], names.utc(now), status_path)
    return result


@dataclass(frozen=True)
class _Known:
    """What is known of a vault before a look: the newest snapshot that was seen in it, and the one
    that it began with.
    """

    seen: tuple[int, str] | None
    first: int | None = None


@dataclass(frozen=True)
class _Look:
    """A look at a vault: this host's report, what its own host found beside that, and what was
    known before.
    """

    report: Report
    more: Sequence[Problem]
    known: _Known


def _known(settings: Settings, side: Side, before: Mapping[str, Any]) -> _Known:
    """What the spool of a master knows of a vault; what the check before saw where that is newer,
    or all there is.
    """
    last = before.get("seen")
    seen = (last[0], last[1]) if isinstance(last, list) and len(last) == 2 else None
    if not settings["master"] or side.name not in settings["vaults"]:
        return _Known(seen)
    spool = Spool(settings["spool"])
    known = spool.known().get(side.name)
    digest = spool.digest(known.newest) if known else ""
    if known and digest and known.newest >= (seen[0] if seen else 0):
        seen = (known.newest, digest)
    return _Known(seen, known.first if known else None)


def _checked(vault: Vault, side: Side, now: dt.datetime, deep: bool, known: _Known,
             progress: telling.Progress) -> _Look:  # fmt: skip
    """A look at one vault. What this host may not read is checked by the vault's own host,
    whose signed report gives the problems beside it.
    """

    def tell(done: int, total: int) -> None:
        progress(Step("verify", side.name, bytes=done, of_bytes=total))

    remote = vault.checked() if deep and side.archives and not side.reads else None
    report = verify.check(
        vault, side.pins, now, deep and not remote, known.seen, tell, side.archives, known.first
    )
    if not remote:
        return _Look(report, (), known)
    told = reports.answer(remote[0], side.name, side.pins.instance, now)
    here = {(problem.code, problem.sequence) for problem in report.problems}
    checked = dataclasses.replace(
        report, archives_checked=told.archives_checked, bytes_checked=told.bytes_checked
    )
    more = [problem for problem in told.problems if (problem.code, problem.sequence) not in here]
    return _Look(checked, more, known)


def _told(report: Report, look: _Look) -> dict[str, Any]:
    """A report with what the next check has to find again: never what this one did not believe."""
    value, seen = report.as_dict(), look.known.seen
    value["problems"] += map(dataclasses.asdict, look.more)
    value["code"] = max(report.code, _code(look.more))
    value["ok"] = value["code"] in (errors.OK, errors.WARNINGS)
    if value["ok"] and report.newest:
        seen = (report.newest.sequence, report.head)
    return {**value, "seen": list(seen) if seen else []}


def _code(problems: Sequence[Problem]) -> int:
    if any(problem.severity == "error" for problem in problems):
        return errors.UNVERIFIED
    return errors.WARNINGS if problems else errors.OK


def _put_only(settings: Settings, side: Side, error: Exception) -> bool:
    """Whether this is a bucket to which a master may put and nothing else, which is no fault."""
    refused = isinstance(error, VaultError) and not isinstance(error, Unreachable)
    return refused and bool(settings["master"]) and side.settings["type"] == "s3"


def _failure(error: Exception, before: Mapping[str, Any], put_only: bool) -> dict[str, Any]:
    """A vault that could not be checked."""
    code = errors.WARNINGS if put_only else getattr(error, "code", errors.FAILED)
    severity = "warning" if put_only else "error"
    problem = Problem("unchecked", f"could not be checked: {error}", severity=severity)
    return {
        "code": code,
        "ok": False,
        "problems": [dataclasses.asdict(problem)],
        "newest": None,
        "unwitnessed_since": before.get("unwitnessed_since"),
        "seen": before.get("seen", []),
    }


def _note_drill(vault: Vault, side: Side, report: Report, now: dt.datetime, instance: str,
                status_path: str) -> None:  # fmt: skip
    """The newest believable report of a drill in a vault goes to the status."""
    newest = report.newest.sequence if report.newest else 0
    with contextlib.suppress(VaultError, OSError):
        value = reports.drill(vault, side.pins, newest, now)
        last = status.section("drill", instance, status_path).get("time", "")
        if value and value["time"] > last:
            status.update("drill", value, instance, value["time"], status_path)


def listed(settings: Settings, secrets: Secrets, vault: str = "", key: str = config.SIGNING_KEY,
           ) -> dict[str, Any]:  # fmt: skip
    """The snapshots in a vault: ``{"vault", "snapshots": {sequence: {"started", "kind", "files",
    "bytes", "size", "warnings"}}, "problems": [sentences]}``. Without a name the first vault that
    answers.
    """
    with _source(settings, secrets, vault, key) as (where, _, known, refused):
        rows = {str(manifest.sequence): _row(manifest) for manifest in known}
        return {"vault": where.name, "snapshots": rows, "problems": refused}


def _row(manifest: Manifest) -> dict[str, Any]:
    row: dict[str, Any] = {"started": manifest.started, "kind": manifest.kind}
    if manifest.kind == "same":
        row["same_as"] = manifest.same_as
    else:
        archives = manifest.archives.values()
        row["files"] = sum(archive.files for archive in archives)
        row["bytes"] = sum(archive.bytes for archive in archives)
        row["size"] = sum(archive.size for archive in archives)
    return {**row, "warnings": sum(manifest.warnings.values())}


def shown(
    settings: Settings,
    secrets: Secrets,
    snapshot: int | str | None = None,
    vault: str = "",
    key: str = config.SIGNING_KEY,
) -> dict[str, Any]:
    """One snapshot as its manifest has it, the newest without a number or a time, and ``full``: the
    number of the snapshot with its archives.
    """
    with _source(settings, secrets, vault, key) as (where, _, known, _refused):
        chosen = fetch.choose(known, wanted(snapshot))
        full = fetch.full(known, chosen)
        value = dataclasses.asdict(chosen)
        value["archives"] = dataclasses.asdict(full)["archives"]
        return {"vault": where.name, **value, "full": full.sequence}


def restored(
    settings: Settings,
    secrets: Secrets,
    identity: Sequence[str],
    target: str,
    snapshot: int | str | None = None,
    vault: str = "",
    paths: Sequence[str] = (),
    parts: Sequence[str] = (),
    in_place: bool = False,
    progress: telling.Progress = telling.silent,
    key: str = config.SIGNING_KEY,
) -> dict[str, Any]:
    """Restores a snapshot below ``target``; see :func:`restore.restore`.

    Returns ``{"vault", "sequence", "started", "target", "files", "bytes", "tops", "moved",
    "missing", "problems", "code"}``.
    """
    keys = access.identities(identity)
    for path in (target, *paths):
        if not path.startswith("/"):
            raise BackupError(f"{path!r} is no absolute path")
    with _source(settings, secrets, vault, key) as (where, reader, known, _):
        chosen = fetch.choose(known, wanted(snapshot))
        done = restoring.restore(
            reader, fetch.full(known, chosen), keys, Path(target), tuple(paths),
            tuple(parts) or None, in_place, progress,
        )  # fmt: skip
    return {
        "vault": where.name, "sequence": chosen.sequence, "started": chosen.started,
        "target": "/" if in_place else target, **dataclasses.asdict(done),
        "code": errors.WARNINGS if done.problems or done.missing else errors.OK,
    }  # fmt: skip


def wanted(snapshot: int | str | None) -> int | dt.datetime | None:
    """A snapshot by its number (``12``) or as of a time (``2026-11-22T13:00:00Z``)."""
    if snapshot is None or snapshot == "":
        return None
    text = str(snapshot)
    if text.isdecimal():
        return int(text)
    try:
        return names.parsed(text)
    except ValueError:
        raise BackupError(
            f"{text!r} is neither the number of a snapshot nor a time like 2026-11-22T13:00:00Z"
        ) from None


@contextlib.contextmanager
def _source(
    settings: Settings, secrets: Secrets, vault: str, key: str
) -> Iterator[tuple[Side, Vault, list[Manifest], list[str]]]:
    """The first vault that answers and keeps archives: the side, the vault, its manifests, and why
    others were refused.
    """
    sides = access.sides(settings, [vault] if vault else [], key)
    why = []
    for side in sorted(sides, key=lambda side: not side.archives):
        with access.opened(side, secrets) as reader:
            refused: list[str] = []
            try:
                known = fetch.manifests(reader, side.pins, refused)
            except (BackupError, OSError) as error:
                why.append(f"{side.name}: {error}")
                continue
            yield side, reader, known, refused
            return
    raise Unreachable(f"no vault could be read: {'; '.join(why)}")


def tried(settings: Settings, secrets: Secrets, tell: Any, key: str = config.SIGNING_KEY,
          status_path: str = status.PATH) -> dict[str, Any]:  # fmt: skip
    """A restore drill on this host; its report, which is noted in the status too."""
    if settings["master"]:
        raise BackupError(
            "a drill needs an identity, which must never be on the master: hardening:backup:drill"
            " makes another host do it"
        )
    if not settings["drill"]:
        raise BackupError(f"{config.TOP}:drill: is not set on this host")
    if "identity" not in settings["drill"]:
        raise BackupError(
            f"{config.TOP}:drill:identity: is not set: this host checks the vaults and restores"
            " nothing"
        )
    own = access.signer(key)
    identities = access.identities([settings["drill"]["identity"]])
    with contextlib.ExitStack() as stack:
        sides = access.sides(settings, settings["drill"]["vaults"], key)
        vaults = [stack.enter_context(access.opened(side, secrets)) for side in sides]
        report = dataclasses.asdict(drill.run(settings, vaults, identities, own, tell=tell))
    value = reports.drilled(report)
    status.update("drill", value, settings["instance"], value["time"], status_path)
    return report
