"""The program ``rocksalt-luks``: volumes of customers, opened and closed without Salt."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rocksalt import __version__
from rocksalt.backup.crypto import age
from rocksalt.errors import Refused, RocksaltError
from rocksalt.luks import config, copies
from rocksalt.luks.handover import commands, onetime, receiving, relay, sealing, serve, service
from rocksalt.luks.volumes import settling
from rocksalt.luks.volumes.machine import Machine

OK, FAILED, USAGE = 0, 1, 2
_CODES = "exit codes: 0 fine, 1 failed, 2 not understood; those of relay are those of the answer"
Options = argparse.Namespace


class Command(NamedTuple):
    """``run`` gives the exit code; ``add`` describes the arguments, ``words`` the command."""

    run: Callable[[Options], int]
    add: Callable[[argparse.ArgumentParser], None]
    words: str


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives the exit code of the program."""
    options = _parser().parse_args(argv)
    receiving.keep_private()
    try:
        return options.run(options)  # type: ignore[no-any-return]
    except RocksaltError as error:
        _tell(str(error))
    except OSError as error:
        _tell(f"{error.filename or 'input or output'}: {error.strerror}")
    except KeyboardInterrupt:
        return 130
    return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rocksalt-luks",
        description="Volumes that only a customer can open.",
        epilog=_CODES,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--config", default=config.PATH, metavar="FILE", help="the settings (default: %(default)s)"
    )
    below = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in _commands().items():
        added = below.add_parser(name, help=command.words, description=command.words)
        command.add(added)
        added.set_defaults(run=command.run, command=name)
    return parser


def _commands() -> dict[str, Command]:
    asked = {
        name: Command(
            _ask,
            _replacing_options if command.replaces else _volume_option,
            _sentence(command.words),
        )
        for name, command in commands.COMMANDS.items()
    }
    return {
        commands.LIST: Command(_ask, lambda parser: None, "The volumes of this host, a line each."),
        **asked,
        "open-all": Command(_open_all, lambda parser: None, "Open what key services have keys of."),
        "settle": Command(_settle, lambda parser: None, "Finish what was broken off."),
        "seal": Command(_seal, _seal_options, "Encrypt a key to the one-time key of a host."),
        "relay": Command(_relay, _customer_option, "Pass a customer's request on (sshd runs it)."),
        "serve": Command(_serve, _customer_option, "Answer a customer (systemd runs it)."),
    }


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _volume_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("volume", metavar="VOLUME", help="its name in hardening:luks:volumes")


def _replacing_options(parser: argparse.ArgumentParser) -> None:
    _volume_option(parser)
    parser.add_argument(
        "recipients", nargs="*", metavar="FINGERPRINT",
        help="of each recipient that shall read the new key: printf %%s age1... | sha256sum; needed"
        " where they change",
    )  # fmt: skip


def _customer_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("customer", metavar="CUSTOMER", help="the name in hardening:luks:customers")


def _seal_options(parser: argparse.ArgumentParser) -> None:
    _volume_option(parser)
    parser.add_argument(
        "--identity", required=True, metavar="FILE", help="with the customer's age identity"
    )
    parser.add_argument(
        "--host-key", required=True, metavar="KEY",
        help="the host's public key, 'ssh-ed25519 AAAA...', known from elsewhere",
    )  # fmt: skip
    parser.add_argument(
        "--request", required=True, metavar="FILE", help="with what luks.request printed as JSON"
    )
    parser.add_argument(
        "--what", default=onetime.OPEN, choices=onetime.PURPOSES,
        help="what the key is handed over for (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--recipient", action="append", default=[], metavar="AGE1...",
        help="who shall read the new key, of rotate and expel: each one",
    )  # fmt: skip


def _ask(options: Options) -> int:
    """What a customer may ask for by SSH, root asks for here, about any volume."""
    words = [options.command, getattr(options, "volume", ""), *getattr(options, "recipients", ())]
    asked = commands.parsed(" ".join(words).rstrip())
    settings = config.load(options.config)
    said = commands.carry_out(
        Machine(), settings, config.volumes(settings), asked, _handed_over, _now()
    )
    sys.stdout.buffer.write(said.out)
    for note in said.notes:
        _tell(note)
    return OK


def _handed_over() -> bytearray:
    """What stands in standard input, to its end or to what is too much for a key."""
    if os.isatty(0):
        raise Refused("a key is read from standard input: ... | rocksalt-luks open VOLUME")
    data = bytearray()
    while len(data) <= receiving.LARGEST and (more := os.read(0, 1024)):
        data += more
    return data


def _open_all(options: Options) -> int:
    """One that cannot be opened keeps no other one closed."""
    failed, machine, settings = False, Machine(), config.load(options.config)
    for volume in config.volumes(settings).values():
        if not volume.key_command:
            continue
        try:
            done = service.open_volume(machine, volume)
            for note in [*done, *copies.renewed(machine.host, settings, volume, _now())]:
                _tell(note)
        except RocksaltError as error:
            failed = True
            _tell(str(error))
    return FAILED if failed else OK


def _settle(options: Options) -> int:
    failed = False
    for volume in config.volumes(config.load(options.config)).values():
        try:
            for note in settling.settle(Machine(), volume):
                _tell(note)
        except RocksaltError as error:
            failed = True
            _tell(str(error))
    return FAILED if failed else OK


def _seal(options: Options) -> int:
    with open(options.request, encoding="ascii", errors="replace") as file:
        request = file.read()
    wanted = sealing.Wanted(options.volume, options.what, options.recipient)
    statement = sealing.checked(request, options.host_key, wanted, _now())
    with open(options.identity, encoding="ascii", errors="replace") as file:
        identities = age.identities(file.read())
    what, where = f"{statement['what']} {statement['volume']}", statement["host"]
    _tell(
        f"to {where}, to {what} with the header {statement['uuid']}, until {statement['expires']}"
    )
    for recipient in statement["recipients"]:
        _tell(f"{recipient} can read the new key")
    print(sealing.seal(statement, sys.stdin.buffer, identities))
    return OK


def _relay(options: Options) -> int:
    text = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    return relay.relay(options.customer, text, 0, sys.stdout.buffer, sys.stderr.buffer)


def _serve(options: Options) -> int:
    return serve.serve(options.customer, serve.accepted(), Machine(), options.config)


def _tell(sentence: str) -> None:
    print(f"rocksalt-luks: {sentence}", file=sys.stderr)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


if __name__ == "__main__":
    raise SystemExit(main())
