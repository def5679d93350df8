"""What in the settings of the family contradicts itself, although each is well-formed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rocksalt import logstash
from rocksalt.logstash import roles
from rocksalt.logstash.facts import Setup
from rocksalt.logstash.shipping import mask
from rocksalt.pki import certificates, held
from rocksalt.settings import Baseline

LINE = 500
"""Bytes that a line takes in the journal, as a rule of thumb."""
_MEBIBYTE = 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1")


def problems(baseline: Baseline, minion: str) -> list[str]:
    """A sentence each, whatever the time and the host are: it stops every family."""
    setup = Setup(baseline, minion)
    given = {key: setup.settings[key] for key in ("ca", "certificate", "private_key")}
    return [
        *_servers(setup),
        *_ports(setup),
        *held.given_problems(given, setup.family.where, certificates.CLIENT),
        *_masks(setup),
        *_files(setup),
        *_limit(setup),
        *_receiver(setup),
        *_witness(setup),
        *roles.problems(setup),
    ]


def _servers(setup: Setup) -> Iterator[str]:
    servers, where = setup.settings["servers"], setup.family.where
    has_port = setup.minion in setup.settings["ports"]
    for server in servers:
        if "port" not in server and not has_port:
            yield (
                f"{where('servers')}: {server['host']} has no port, and {where('ports')} has none "
                f"for {setup.minion}; write {setup.minion}: 2601, or another free port, there"
            )
    named = Counter(server["host"].lower() for server in servers)
    for host in sorted(host for host, count in named.items() if count > 1):
        yield f"{where('servers')}: {host} is named twice; name every log server once"


def _ports(setup: Setup) -> Iterator[str]:
    hosts: dict[int, list[str]] = {}
    for host, port in sorted(setup.settings["ports"].items()):
        hosts.setdefault(port, []).append(host)
    for port, names in sorted(hosts.items()):
        if len(names) > 1:
            yield (
                f"{setup.family.where('ports')}: {port} is the port of {' and '.join(names)}; each "
                "host has a port of its own, for it tells whose lines they are"
            )


def _masks(setup: Setup) -> Iterator[str]:
    where = setup.family.where("mask")
    yield from (f"{where}: {problem}" for problem in mask.problems(setup.settings["mask"]))


def _files(setup: Setup) -> Iterator[str]:
    received = setup.settings["receiver"].get("path", logstash.RECEIVED)
    for path in setup.settings["files"]:
        where = setup.family.where("files", path)
        parts = path.split("/")
        if not path.startswith("/") or "\n" in path or {"", ".", ".."} & {*parts[1:]}:
            yield f"{where}: is no absolute path of a file, such as /var/log/app/*.log"
        elif path.startswith(f"{received}/"):
            yield f"{where}: is what was received, and would be sent round and round"
        elif path.startswith("/var/log/journal/"):
            yield f"{where}: is the journal; it is shipped by the dataset journal"


def _limit(setup: Setup) -> Iterator[str]:
    limit, size = setup.settings["limit"], setup.settings["journal_size"]
    most = size * _MEBIBYTE // LINE
    if limit > most:
        where = setup.family.where
        yield (
            f"{where('limit')}: {limit} lines are more than a journal of {size} MiB holds, which "
            f"is about {most}; lower it, or raise {where('journal_size')}"
        )


def _receiver(setup: Setup) -> Iterator[str]:
    receiver, where = setup.settings["receiver"], setup.family.where
    if not receiver:
        return
    if not setup.settings["ports"]:
        yield (
            f"{where('ports')}: is empty, and {where('receiver')} makes this host a log server: "
            "write the minion id of each host that ships, and a port for it, there"
        )
    address = receiver.get("address", "")
    own = {setup.minion, *_LOOPBACK, *([address] if address else [])}
    witness = receiver.get("witness")
    if witness and witness["host"] in own:
        yield (
            f"{where('receiver', 'witness', 'host')}: {witness['host']} is this host; a witness "
            "is another one, for root here could write there what it likes"
        )


def _witness(setup: Setup) -> Iterator[str]:
    if setup.witnesses and not setup.settings["witness"].get("clients"):
        yield (
            f"{setup.family.where('witness', 'clients')}: is missing; name the log servers there, "
            "each with its key and signer, as logstash.keys prints them"
        )
