"""The program ``rocksalt-backup``: everything that a vault host, a drill host or a monitoring host
does, and a restore on any host, without Salt.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rocksalt import __version__
from rocksalt.backup import check, commands, config, progress, status
from rocksalt.backup.access import credentials
from rocksalt.backup.crypto import recipients
from rocksalt.backup.errors import FAILED, OK, BackupError
from rocksalt.backup.vaults import receiver

Options = argparse.Namespace
_CODES = """\
exit codes: 0 fine, 1 failed, 4 done with warnings, 5 another run is at work, 6 a vault cannot be
reached, 7 something is not what was signed; those of check are 0, 1, 2 and 3, as Nagios has them"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives the exit code of the program."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except BackupError as error:
        print(f"rocksalt-backup: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"rocksalt-backup: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rocksalt-backup",
        description="Snapshots of a Salt master: check, list, show and restore them.",
        epilog=_CODES,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", default=config.PATH, metavar="FILE", help="the settings (default: %(default)s)"
    )
    common.add_argument("--json", action="store_true", help="print JSON, with sizes in bytes")
    for name, (run, words, add) in _COMMANDS.items():
        parents = [] if name == "check" else [common]
        command = commands.add_parser(name, help=words, description=words, parents=parents)
        add(command)
        command.set_defaults(run=run)
    return parser


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vaults", nargs="*", metavar="VAULT", help="only these; all if left out")
    parser.add_argument(
        "--quick", action="store_true", help="compare the sizes of archives, do not read them"
    )
    _status_option(parser)


def _status_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status", default=status.PATH, metavar="FILE",
        help="where to note the outcome for agents (default: %(default)s)",
    )  # fmt: skip


def _vault_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vault", default="", help="its name (default: the first that answers)")


def _show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "snapshot", nargs="?", metavar="SNAPSHOT",
        help="number, or a time like 2026-11-22T13:00:00Z (default: the newest)",
    )  # fmt: skip
    _vault_option(parser)


def _restore_options(parser: argparse.ArgumentParser) -> None:
    _show_options(parser)
    parser.add_argument(
        "--identity", action="append", required=True, metavar="FILE",
        help="file with an age identity; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--to", required=True, metavar="FOLDER", help="new or empty folder to restore below"
    )
    parser.add_argument(
        "--path", action="append", default=[], metavar="PATH",
        help="restore only this absolute path and what is below it; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--part", action="append", default=[], metavar="PART",
        help="restore only operator or customer-NAME; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--in-place", action="store_true",
        help="put everything where it was, and move aside what is there",
    )  # fmt: skip


def _client_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client", required=True, help="its name below receiver:clients")


def _receive(options: Options) -> int:
    receiver.serve(config.load(options.config), options.client, sys.stdin.buffer, sys.stdout.buffer)
    return OK


def _verify(options: Options) -> int:
    with _Meter() as meter:
        found = commands.check(
            *_settings(options), _now(), not options.quick, options.vaults, meter,
            _key(options), options.status,
        )  # fmt: skip
    return _tell(options, found, _verify_text)


def _list(options: Options) -> int:
    found = commands.listed(*_settings(options), options.vault, _key(options))
    return _tell(options, found, _list_text)


def _show(options: Options) -> int:
    found = commands.shown(*_settings(options), options.snapshot, options.vault, _key(options))
    return _tell(options, found, _json)


def _restore(options: Options) -> int:
    with _Meter() as meter:
        found = commands.restored(
            *_settings(options), options.identity, os.path.abspath(options.to), options.snapshot,
            options.vault, options.path, options.part, options.in_place, meter, _key(options),
        )  # fmt: skip
    return _tell(options, found, _restore_text)


def _drill(options: Options) -> int:
    def tell(step: Mapping[str, str]) -> None:
        if not options.json:
            print(f"{step['status']:<8}{step['name']}: {step['reason']}".rstrip(": "), flush=True)

    found = commands.tried(*_settings(options), tell, _key(options), options.status)
    return _tell(options, found, _drill_text)


def _record(options: Options) -> int:
    sys.stdout.write(recipients.record_bytes(config.load(options.config)).decode("ascii"))
    return OK


_COMMANDS: dict[
    str, tuple[Callable[[Options], int], str, Callable[[argparse.ArgumentParser], None]]
] = {
    "verify": (_verify, "Check what vaults hold; decrypts nothing.", _verify_options),
    "list": (_list, "List the snapshots in a vault.", _vault_option),
    "show": (_show, "Show one snapshot by its manifest.", _show_options),
    "restore": (_restore, "Restore a snapshot.", _restore_options),
    "drill": (_drill, "Restore the newest snapshot and try it out.", _status_option),
    "check": (check.run, "One line for a monitoring agent.", check.arguments),
    "record": (_record, "Print who can read snapshots, to be signed.", lambda parser: None),
    "receive": (_receive, "Serve a client that logged in by ssh.", _client_option),
}


class _Meter:
    """Progress on the terminal, until the end."""

    def __enter__(self) -> progress.Meter:
        self._meter = progress.Meter(sys.stderr)
        return self._meter

    def __exit__(self, *details: object) -> None:
        self._meter.close()


def _settings(options: Options) -> tuple[config.Settings, dict[str, dict[str, str]]]:
    return config.load(options.config), credentials(_beside(options, config.CREDENTIALS))


def _key(options: Options) -> str:
    return _beside(options, config.SIGNING_KEY)


def _beside(options: Options, path: str) -> str:
    return os.path.join(os.path.dirname(options.config), os.path.basename(path))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def _tell(options: Options, value: Mapping[str, Any], text: Callable[[Any], str]) -> int:
    print(_json(value) if options.json else text(value))
    return int(value.get("code", OK))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True)


def _verify_text(found: Mapping[str, Any]) -> str:
    lines = []
    for name, vault in found["vaults"].items():
        newest = vault["newest"]
        what = f"{vault['snapshots']} snapshots, newest #{newest['sequence']}" if newest else ""
        if newest:
            what += f" of {newest['started']}, {vault['archives_checked']} archives read"
        lines.append(f"{name}: {'ok' if vault['ok'] else 'NOT OK'}{', ' if what else ''}{what}")
        lines += [f"  {it['severity']}: {it['sentence']}" for it in vault["problems"]]
        if vault["unwitnessed_since"]:
            lines.append(f"  unwitnessed since {vault['unwitnessed_since']}")
    lines += [f"{it['severity']}: {it['sentence']}" for it in found["problems"]]
    return "\n".join(lines)


def _list_text(found: Mapping[str, Any]) -> str:
    lines = [f"{'#':>8}  {'started':<20}  {'kind':<12}  {'files':>9}  {'size':>10}  warnings"]
    for number, row in found["snapshots"].items():
        kind = f"same as #{row['same_as']}" if row["kind"] == "same" else row["kind"]
        files = f"{row['files']:,}" if "files" in row else ""
        size = progress.size(row["size"]) if "size" in row else ""
        warnings = row["warnings"] or ""
        line = f"{number:>8}  {row['started']}  {kind:<12}  {files:>9}  {size:>10}  {warnings}"
        lines.append(line.rstrip())
    return "\n".join([*lines, *found["problems"]])


def _restore_text(found: Mapping[str, Any]) -> str:
    lines = [
        f"restored #{found['sequence']} of {found['started']} from {found['vault']}:"
        f" {found['files']:,} files, {progress.size(found['bytes'])}, below {found['target']}"
    ]
    lines += [f"moved {path} to {aside}" for path, aside in found["moved"].items()]
    lines += [f"not restored, no identity opens it: {part}" for part in found["missing"]]
    return "\n".join([*lines, *found["problems"]])


def _drill_text(found: Mapping[str, Any]) -> str:
    age = "" if found["rpo"] is None else f", of data {progress.duration(found['rpo'])} old"
    return f"snapshot #{found['sequence']}: took {progress.duration(found['rto'])}{age}"


if __name__ == "__main__":
    raise SystemExit(main())
