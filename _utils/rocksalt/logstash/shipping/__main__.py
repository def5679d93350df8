"""The program ``rocksalt-ship``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence

from rocksalt import __version__, logstash
from rocksalt.errors import Refused, RocksaltError
from rocksalt.logstash.shipping import WRONG, config, link, status
from rocksalt.logstash.shipping.ship import Shipper

Options = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives the exit code of the program."""
    options = _parser().parse_args(argv)
    try:
        return int(_COMMANDS[options.command](options))
    except RocksaltError as error:
        print(f"rocksalt-ship: {error}", file=sys.stderr)
        wrong = options.command == "run" and isinstance(error, Refused)
        return WRONG if wrong else 1
    except OSError as error:
        print(f"rocksalt-ship: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rocksalt-ship", description="Ships the logs of this host to a log server."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "command",
        choices=list(_COMMANDS),
        help="run: ship; status: how it goes; check: whether the settings make sense",
    )
    parser.add_argument(
        "--config", default=logstash.SHIPPER_CONFIG, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--state", default=logstash.STATE, metavar="FOLDER", help="default: %(default)s"
    )
    return parser


def _run(options: Options) -> int:
    shipper = Shipper(config.load(options.config), options.state)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: shipper.stop())
    shipper.run()
    return 0


def _status(options: Options) -> int:
    path = os.path.join(options.state, os.path.basename(logstash.STATUS))
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise RocksaltError(
            f"{path} cannot be read, the shipper may never have run: {error}"
        ) from None
    print("\n".join(status.lines(found)))
    return 0


def _check(options: Options) -> int:
    link.context(config.load(options.config))
    return 0


_COMMANDS = {"run": _run, "status": _status, "check": _check}


if __name__ == "__main__":
    raise SystemExit(main())
