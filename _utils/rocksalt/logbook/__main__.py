"""The program ``rocksalt-logbook``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rocksalt import __version__, logbook
from rocksalt.backup.crypto import sshsig
from rocksalt.errors import RocksaltError
from rocksalt.logbook import checking, config, telling
from rocksalt.logstash.receiving import files, verify

Options = argparse.Namespace
OK, FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives the exit code of the program."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except (RocksaltError, OSError) as error:
        print(f"rocksalt-logbook: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rocksalt-logbook", description="Who did what on this Salt master."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (run, words) in _COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        for option, default, metavar in (
            ("--config", logbook.CONFIG, "FILE"),
            ("--state", logbook.STATE, "FOLDER"),
            ("--key", "", "FILE"),
            ("--transport", "", "FILE"),
        ):
            command.add_argument(option, default=default, metavar=metavar, help=_HELP[option])
        command.set_defaults(run=run)
    check = commands.choices["verify"]
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument(
        "--witness-entries",
        metavar="PATH",
        help="what the witness has, brought by hand: a copy of its folder, or a file of entries",
    )
    for option, (metavar, words) in _ELSEWHERE.items():
        check.add_argument(option, metavar=metavar, help=words)
    check.add_argument("--days", type=int, help="for how many days lines are kept")
    check.add_argument(
        "--daily", action="store_true",
        help="note the outcome, then compress and remove what is old enough",
    )  # fmt: skip
    return parser


_ELSEWHERE = {
    "--signer": ("KEY", "on another host: the public key that signs how far the book is"),
    "--witness-key": ("KEY", "on another host: the public key of the witness"),
    "--folder": ("FOLDER", "on another host: the copy of the book"),
    "--name": ("HOST", "on another host: whose book it is"),
    "--client": ("NAME", "on another host: what the witness calls it (default: HOST-logbook)"),
}
_HELP = {
    "--config": "(default: %(default)s)",
    "--state": "(default: %(default)s)",
    "--key": "that signs how far the book is (default: signing in the state folder)",
    "--transport": "to log in to the witness with (default: transport in the state folder)",
}


def _run(options: Options) -> int:
    # Salt is imported by this command alone.
    from rocksalt.logbook.service import Service

    service = Service(config.load(options.config), Path(options.state))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.run()
    return OK


def _status(options: Options) -> int:
    print(_json(telling.status(Path(options.state))))
    return OK


def _keys(options: Options) -> int:
    for path in (_key(options), _transport(options)):
        public = sshsig.Signer.load(path).public if path.exists() else sshsig.generate(path)
        print(f"{path}: {public}")
    return OK


def _heads(options: Options) -> int:
    settings = config.load(options.config)
    there = partial(checking.connect, settings, str(_transport(options)))
    error = checking.send(settings, _signer(options), Path(options.state, telling.HEADS), there)
    if error:
        raise RocksaltError(error)
    return OK


def _verify(options: Options) -> int:
    found = _elsewhere(options) if options.signer else _here(options)
    print(_json(found) if options.json else verify.text(found))
    return OK if found["ok"] else FAILED


def _elsewhere(options: Options) -> dict[str, Any]:
    """By what is said here alone, and no private key."""
    needed = ("signer", "witness_key", "folder", "name", "witness_entries")
    if missing := [f"--{it.replace('_', '-')}" for it in needed if not getattr(options, it)]:
        raise RocksaltError(f"a check with --signer needs {', '.join(missing)} as well")
    if options.daily:
        raise RocksaltError("a check with --signer has no key to tidy up with: leave out --daily")
    return checking.elsewhere(
        options.folder, options.name, options.client or "", _public(options.witness_key),
        options.days, checking.brought(options.witness_entries), _public(options.signer),
    )  # fmt: skip


def _public(given: str) -> str:
    """A public key, or that in a file."""
    is_key = given.startswith(f"{sshsig.KIND} ")
    return sshsig.bare(given if is_key else Path(given).read_text("ascii"))


def _here(options: Options) -> dict[str, Any]:
    if strange := [
        it for it in (*_ELSEWHERE, "--days") if getattr(options, it[2:].replace("-", "_"))
    ]:
        raise RocksaltError(f"{', '.join(strange)}: means nothing without --signer")
    settings = config.load(options.config)
    signer = _signer(options)
    given = options.witness_entries
    if given and not settings["witness"]:
        raise RocksaltError(f"{options.config} has no witness, so no key to check entries with")
    there = partial(checking.connect, settings, str(_transport(options)))
    records = checking.brought(given) if given else None
    evidence = checking.seen(settings, signer.public, there, records)
    found = checking.check(settings, signer.public, evidence)
    if options.daily:
        # First what was found, whatever becomes of the old files.
        _note(options, found)
        found = checking.daily(settings, signer, found, evidence)
        _note(options, found)
    return found


def _note(options: Options, found: dict[str, Any]) -> None:
    files.replace(Path(options.state, telling.VERIFIED), _json(found).encode("ascii") + b"\n")


def _signer(options: Options) -> sshsig.Signer:
    return sshsig.Signer.load(_key(options))


def _key(options: Options) -> Path:
    return Path(options.key or Path(options.state, "signing"))


def _transport(options: Options) -> Path:
    return Path(options.transport or Path(options.state, "transport"))


def _json(found: object) -> str:
    return json.dumps(found, indent=1, sort_keys=True)


_COMMANDS: dict[str, tuple[Callable[[Options], int], str]] = {
    "run": (_run, "Follow the master and keep the book."),
    "keys": (_keys, "Make the keys to sign and to log in with, and show their public halves."),
    "heads": (_heads, "Sign how far the book is, and have that witnessed."),
    "verify": (_verify, "Check the book against what the witness saw."),
    "status": (_status, "How the service goes."),
}


if __name__ == "__main__":
    raise SystemExit(main())
