"""The program ``rocksalt-logs``: what a log server and its witness do, without Salt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rocksalt import __version__, logstash
from rocksalt.backup.crypto import sshsig
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import begins, files, heads, keep, remote, verify, witness, writer
from rocksalt.logstash.receiving.evidence import Evidence, gather
from rocksalt.logstash.receiving.store import now

Options = argparse.Namespace
OK, FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives the exit code of the program."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except (RocksaltError, OSError) as error:
        print(f"rocksalt-logs: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rocksalt-logs", description="Received logs.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (run, words) in _COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        config = logstash.WITNESS_CONFIG if name == "witness" else logstash.RECEIVER_CONFIG
        for option, default, metavar in (
            ("--config", config, "FILE"),
            ("--state", logstash.RECEIVING, "FOLDER"),
            ("--key", logstash.SIGNING_KEY, "FILE"),
            ("--transport", logstash.TRANSPORT_KEY, "FILE"),
        ):
            command.add_argument(
                option, default=default, metavar=metavar, help="(default: %(default)s)"
            )
        command.set_defaults(run=run)
    choices = commands.choices
    choices["witness"].add_argument("--client", required=True, help="which log server logs in")
    check = choices["verify"]
    check.add_argument("--host", default="", help="only this one")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument(
        "--witness-entries", metavar="FILE", help="what the witness has, brought by hand"
    )
    check.add_argument(
        "--daily", action="store_true",
        help="note the outcome, then compress and remove what is old enough",
    )  # fmt: skip
    return parser


def _write(options: Options) -> int:
    status = Path(options.state, "status.json")
    writer.run(_settings(options), status, sys.stdin.buffer, sys.stdout.fileno())
    return OK


def _heads(options: Options) -> int:
    settings, signer = _settings(options), sshsig.Signer.load(options.key)
    status = Path(options.state, "heads.json")
    error = heads.run(settings, signer, status, lambda: _connected(settings, options))
    if error:
        raise RocksaltError(error)
    return OK


def _witness(options: Options) -> int:
    settings = _settings(options)
    witness.serve(settings, options.client, options.key, sys.stdin.buffer, sys.stdout.buffer)
    return OK


def _verify(options: Options) -> int:
    settings, signer = _settings(options), sshsig.Signer.load(options.key)
    started = now()
    evidence = _evidence(settings, signer.public, options)
    found = verify.check(settings, signer.public, evidence, options.host, started=started)
    if options.daily:
        # First what was found, whatever becomes of the old files.
        _note(options, found)
        found = keep.daily(settings, signer, found, evidence=evidence)
        _note(options, found)
    print(_json(found) if options.json else verify.text(found))
    return OK if found["ok"] else FAILED


def _note(options: Options, found: dict[str, Any]) -> None:
    files.replace(Path(options.state, "verified.json"), _json(found).encode("ascii") + b"\n")


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1, sort_keys=True)


def _connected(settings: dict[str, Any], options: Options) -> remote.Witness:
    return remote.Witness(settings["witness"], settings["name"], options.transport)


def _evidence(settings: dict[str, Any], public: str, options: Options) -> Evidence | None:
    """What the witness has, by ssh or from a file."""
    if not settings.get("witness"):
        if options.witness_entries:
            raise RocksaltError(f"{options.config} has no witness, so no key to check entries with")
        return None
    known = (settings["name"], public, settings["witness"]["key"])
    try:
        removed = begins.numbers(Path(settings["path"]), public)
        if options.witness_entries:
            with open(options.witness_entries, encoding="ascii") as file:
                return gather(map(json.loads, file), *known, removed)
        there = _connected(settings, options)
        try:
            return gather(there.records(), *known, removed)
        finally:
            there.close()
    except (RocksaltError, OSError) as error:
        return Evidence(error=str(error))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return Evidence(error=f"the witness sent what is no entry: {error}")


_COMMANDS: dict[str, tuple[Callable[[Options], int], str]] = {
    "write": (_write, "Keep the lines that rsyslog hands over."),
    "heads": (_heads, "Sign how far all chains are, and have that witnessed."),
    "witness": (_witness, "Serve a log server that logged in by ssh."),
    "verify": (_verify, "Check all that was received against what the witness saw."),
}


def _settings(options: Options) -> dict[str, Any]:
    try:
        found = json.loads(Path(options.config).read_bytes())
    except ValueError as error:
        raise RocksaltError(f"{options.config} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise RocksaltError(f"{options.config} has no settings")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
