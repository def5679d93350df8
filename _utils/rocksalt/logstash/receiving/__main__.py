"""The program ``rocksalt-logs``: what a log server and its witness do, without Salt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rocksalt import __version__, logstash
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import writer

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
    write = commands.add_parser("write", help="keep the lines that rsyslog hands over")
    write.add_argument("--config", default=logstash.RECEIVER_CONFIG, metavar="FILE")
    write.add_argument("--state", default=logstash.RECEIVING, metavar="FOLDER")
    write.set_defaults(run=_write)
    return parser


def _write(options: Options) -> int:
    status = Path(options.state, "status.json")
    writer.run(_settings(options), status, sys.stdin.buffer, sys.stdout.fileno())
    return OK


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
