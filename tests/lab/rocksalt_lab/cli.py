"""The lab for people: `scripts/lab up` and friends. See docs/lab.md."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

from . import demo, image
from .host import Host
from .lab import Lab, labs, remove, sweep
from .system import LabError, ensure_tools

NAME = "lab"
WELCOME = """
The lab is up: {hosts}. Log in and play:

    {me} shell master           a root shell (web1 and the others likewise)
    {me} ssh web1               log in as ops over the network, from the master

Try on the master:

    salt '*' test.ping
    salt '*' service.get_running
    cd /srv/rocksalt            the repository as it was when the lab came up

`{me} status` lists labs, `{me} down` removes this one.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code of the command inside the host, or 1 for our own errors."""
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ensure_tools(install=args.made)
        return int(args.function(args) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, function: object, help: str, made: bool = False
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(function=function, made=made)
        if made:
            sub.add_argument("--release", default="debian-12", choices=image.RELEASES)
            sub.add_argument("--salt", default="3008", choices=image.SALT_LINES)
        else:
            sub.add_argument("--id", default=NAME, help=f"which lab (default: {NAME})")
        return sub

    command("image", _image, "build the base image if it is not there yet", made=True)
    command("demo", _demo, "harden, break and heal real hosts before your eyes", made=True)
    up = command("up", _up, "start a Salt master and minions and leave them running", made=True)
    up.add_argument("--id", default=NAME, help=f"the name of the lab (default: {NAME})")
    up.add_argument("--minions", default="web1,web2", help="names (default: web1,web2)")
    machine = command("machine", _machine, "add a virtual machine to a lab, new if need be", True)
    machine.add_argument("--id", default=NAME, help=f"which lab (default: {NAME})")
    machine.add_argument("--ip", default="10.79.0.21", help="its address (default: 10.79.0.21)")
    machine.add_argument(
        *("--disk", "-d"), action="append", default=[], metavar="NAME=SIZE", help="as in data=64M"
    )
    machine.add_argument("name")
    run = command("exec", _exec, "run a command as root: exec HOST -- COMMAND ...")
    run.add_argument("host")
    run.add_argument("words", nargs="+", metavar="COMMAND")
    command("shell", _shell, "open a root shell on a host").add_argument("host")
    command("ssh", _ssh, "log in to a host as ops, from the master").add_argument("host")
    command("status", _status, "list the labs of this machine")
    down = command("down", _down, "remove a lab that `up` left running, and leftovers of dead runs")
    down.add_argument("--all", action="store_true", help="remove every lab, tests in progress too")
    return parser


def _image(args: argparse.Namespace) -> None:
    print(image.ensure(args.release, args.salt))


def _demo(args: argparse.Namespace) -> None:
    demo.show(args.release, args.salt)


def _up(args: argparse.Namespace) -> None:
    lab = Lab.start(args.id, args.release, args.salt, keep=True)
    try:
        hosts = lab.salt_cluster(args.minions.split(","))
    except BaseException:
        lab.stop()
        raise
    print(WELCOME.format(hosts=", ".join(hosts), me="scripts/lab"))


def _machine(args: argparse.Namespace) -> None:
    if args.id in (lab.id for lab in labs()):
        lab = Lab.load(args.id)
    else:
        lab = Lab.start(args.id, args.release, args.salt, keep=True)
    try:
        lab.machine(args.name, args.ip, dict(disk.partition("=")[::2] for disk in args.disk))
    except BaseException:
        if not lab.hosts.keys() - {args.name}:
            lab.stop()
        raise
    print(f"{args.name} is up: scripts/lab shell --id {lab.id} {args.name}")


def _host(args: argparse.Namespace) -> Host:
    lab = Lab.load(args.id)
    if args.host not in lab.hosts:
        raise LabError(f"Lab {lab.id} has no host {args.host!r}, only {', '.join(lab.hosts)}.")
    return lab.hosts[args.host]


def _exec(args: argparse.Namespace) -> int:
    return subprocess.call(_host(args).argv(args.words))


def _shell(args: argparse.Namespace) -> int:
    return subprocess.call(_host(args).argv(["bash", "-l"], {"TERM": "xterm-256color"}))


def _ssh(args: argparse.Namespace) -> int:
    host = _host(args)
    if "master" not in host.lab.hosts:
        raise LabError(f"Lab {host.lab.id} has no master to log in from; use `shell`.")
    words = ["ssh", "-o", "StrictHostKeyChecking=accept-new", f"ops@{host.name}"]
    return subprocess.call(host.lab.hosts["master"].argv(words, {"TERM": "xterm-256color"}))


def _status(_: argparse.Namespace) -> None:
    found = labs()
    if not found:
        print("No lab on this machine; `up` starts one.")
    for lab in found:
        owner = f"process {lab.owner}" if lab.owner else "kept until `down`"
        owner = "left behind, removed by `down`" if lab.abandoned else owner
        print(f"{lab.id}: {lab.release}, Salt {lab.salt}, {owner}")
        for host in lab.hosts.values():
            print(f"  {host.name:<12} {host.ip:<12} {'running' if host.running else 'down'}")


def _down(args: argparse.Namespace) -> None:
    removed = sweep()
    for lab in labs():
        if args.all or lab.id == args.id:
            remove(lab.id, lab.disk)
            removed.append(lab.id)
    print(f"Removed: {', '.join(removed)}." if removed else "There was nothing to remove.")
