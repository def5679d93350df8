"""What is wrong with settings that are each well-formed: a sentence each, with the pillar path, the
value and what would be right.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from rocksalt.firewall.policy import KNOWN_NETWORKS, PUBLIC, Policy
from rocksalt.host import Host
from rocksalt.ossec import KEYS, TOP, conf, repository
from rocksalt.ossec.declared import COMMANDS, Declared
from rocksalt.schema import nearest
from rocksalt.settings import SECRET

NAME = re.compile(r"[A-Za-z0-9_.-]{2,128}")
_SHORTEST, _LONGEST = 3, 32
_WIDEST = {4: 8, 6: 16}
_KEYS_AND_HASHES = (
    *("/etc/shadow", "/etc/gshadow", "/etc/ssl/private", "/etc/rocksalt"),
    *("/etc/ssh/ssh_host_", "/etc/salt/pki", "/root/.ssh/id_", "/etc/letsencrypt"),
    *(KEYS, "/var/lib/rocksalt"),
)
"""Whose content would be sent and kept on the server with report_changes."""


def problems(it: Declared, host: Host) -> list[str]:
    """The sentences. Of the host, only which folders it has is read."""
    return [
        *_servers(it),
        *_name(it),
        *_password(it),
        *_certificates(it),
        *_directories(it, host),
        *_contents(it, host),
        *_patterns(it),
        *_logs(it),
        *_never_ban(it),
        *(_firewall(it) if it.servers else ()),
        *repository.problems(it),
    ]


def _servers(it: Declared) -> Iterator[str]:
    path = it.family.where("servers")
    for server in it.servers:
        address = ipaddress.ip_address(server)
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            yield f"{path}: {server} is no address of another host; name the OSSEC server's"
        if "%" in server:
            yield f"{path}: {server} names an interface, which OSSEC cannot read"


def _name(it: Declared) -> Iterator[str]:
    if it.servers and not NAME.fullmatch(it.name):
        yield (
            f"{it.family.where('agent_name')}: OSSEC cannot take the minion's id {it.name!r}; give "
            "a name of 2 to 128 letters, digits, dots, hyphens and underscores"
        )


def _password(it: Declared) -> Iterator[str]:
    """Never shows it. What has two characters or fewer, agent-auth takes for none and sends the
    name of the file; of what is longer than 32 bytes it sends the beginning.
    """
    path, password = it.family.where("password"), it.settings["password"]
    if password in ("", SECRET):
        return
    if password.endswith(("\n", "\r")):
        yield f"{path}: ends with a line end, which would be sent as well; write it in quotes"
    elif not password.isprintable():
        yield f"{path}: has a character that cannot be printed; use letters and digits"
    elif not _SHORTEST <= len(password.encode()) <= _LONGEST:
        size = len(password.encode())
        yield f"{path}: has {size} bytes; OSSEC takes {_SHORTEST} to {_LONGEST}"


def _certificates(it: Declared) -> Iterator[str]:
    """One that expired is needed by a host only that is to enrol, which then says so."""
    settings = it.settings
    pair = [key for key in ("enrolment_certificate", "enrolment_key") if settings[key]]
    if len(pair) == 1:
        other = {"enrolment_certificate": "enrolment_key"}.get(pair[0], "enrolment_certificate")
        yield f"{TOP}:{other}: is empty, though {TOP}:{pair[0]} is given; they are of use together"
    found = {}
    for key in ("enrolment_ca", "enrolment_certificate"):
        if not settings[key]:
            continue
        try:
            found[key] = x509.load_pem_x509_certificates(settings[key].encode())[0]
        except (ValueError, IndexError):
            yield f"{it.family.where(key)}: is no certificate in PEM"
    key = settings["enrolment_key"]
    if key and key != SECRET:
        yield from _private_key(it, key, found.get("enrolment_certificate"))


def _private_key(it: Declared, text: str, certificate: x509.Certificate | None) -> Iterator[str]:
    path = it.family.where("enrolment_key")
    try:
        private = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        yield f"{path}: is no private key in PEM without a passphrase"
        return
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    public = private.public_key().public_bytes(*form)
    if certificate and certificate.public_key().public_bytes(*form) != public:
        yield f"{path}: is not the key of {TOP}:enrolment_certificate"


def _directories(it: Declared, host: Host) -> Iterator[str]:
    """One that a pillar names has to be there; those of the defaults may be missing."""
    known: dict[str, str] = {}
    for name, how in it.settings["directories"].items():
        path = it.family.where("directories", name)
        if not name.startswith("/") or "," in name or any(conf.value_faults(name)):
            yield f"{path}: is no path that OSSEC can read; write one such as /srv/www"
            continue
        if how.get("realtime") and how.get("report_changes"):
            yield f"{path}: has realtime and report_changes, which together lose alerts; choose one"
        plain = name.rstrip("/") or "/"
        if known.setdefault(plain, name) != name:
            yield f"{path}: is the same folder as {known[plain]}; name it once"
        there = host.path(name)
        if _named_here(it, name) and not there.exists():
            others = [str(other.name) for other in there.parent.glob("*") if other.is_dir()]
            yield f"{path}: there is no such folder on this host{nearest(there.name, others)}"
        if how.get("realtime") and there.is_file():
            yield f"{path}: is a file; realtime watches folders, so name the one that it is in"
        if bad := next(conf.value_faults(how.get("restrict", "x")), ""):
            yield f"{path}:restrict: {bad}"


def _named_here(it: Declared, folder: str) -> bool:
    """Whether a pillar or a role names a folder, and not the defaults alone."""
    return any(folder in (layer.get("directories") or {}) for _, layer in it.family.layers)


def _contents(it: Declared, host: Host) -> Iterator[str]:
    """With report_changes OSSEC sends what changed in a file, and keeps copies."""
    secrets = [*_KEYS_AND_HASHES, *(f"{home}/id_" for home in host.glob("/home/*/.ssh"))]
    hidden = [*it.settings["nodiff"], *it.settings["ignore"]]
    for folder, how in it.settings["directories"].items():
        under = folder.rstrip("/") + "/"
        for secret in secrets if how.get("report_changes") else ():
            inside = under.startswith(f"{secret}/")
            meets = inside or secret.startswith(under)
            if meets and not hides(hidden, folder if inside else secret):
                yield (
                    f"{it.family.where('directories', folder)}: report_changes would send what is "
                    f"in {secret}; add that to {TOP}:nodiff"
                )


def hides(prefixes: list[str], path: str) -> bool:
    """Whether a path begins like one of these; case does not matter to OSSEC."""
    return any(path.lower().startswith(prefix.lower()) for prefix in prefixes)


def _patterns(it: Declared) -> Iterator[str]:
    for key in ("ignore", "nodiff"):
        for value in it.settings[key]:
            path = it.family.where(key)
            if not value.startswith("/") or any(conf.value_faults(value)):
                yield f"{path}: {value!r} is no path that OSSEC can read, such as /etc/mtab"
    for folder in it.settings["directories"]:
        for value in it.settings["ignore"]:
            if hides([value], folder.rstrip("/") + "/"):
                yield (
                    f"{it.family.where('ignore')}: {value!r} hides all of {folder}, which is to be "
                    "watched"
                )


def _logs(it: Declared) -> Iterator[str]:
    for what, kind in it.settings["logs"].items():
        path = it.family.where("logs", what)
        if fault := next(conf.value_faults(what), ""):
            yield f"{path}: {fault}"
        elif kind not in (*COMMANDS, "journald") and not what.startswith("/"):
            yield f"{path}: is no path of a log; write one such as /var/log/app.log"


def _never_ban(it: Declared) -> Iterator[str]:
    known = {*it.baseline.networks, *KNOWN_NETWORKS}
    path = it.family.where("never_ban")
    for entry in it.settings["never_ban"]:
        if entry in known:
            continue
        if entry == PUBLIC:
            yield f"{path}: public is everybody; to ban nobody, set active_response to false"
            continue
        try:
            network = ipaddress.ip_network(entry)
        except ValueError:
            yield f"{path}: {entry!r} is not in hardening:networks{nearest(entry, known)}"
            continue
        if network.prefixlen < _WIDEST[network.version]:
            yield f"{path}: {entry} is most of the world; name the networks that must get in"


def _firewall(it: Declared) -> Iterator[str]:
    """The packet filter has to let the agent out, and to leave OSSEC's chain alone."""
    family = it.baseline.families.get("firewall")
    if family is None or not family.settings["enabled"]:
        return
    if it.settings["active_response"] and "ossec" not in family.settings["foreign"]:
        yield (
            f"{family.where('foreign')}: does not name ossec, so nobody whom a response bans stays "
            f"out; name it, or set {TOP}:active_response to false"
        )
    if family.settings["output"] != "deny":
        return
    policy, path = Policy(it.baseline), family.where("egress")
    needed = [(server, "udp", it.settings["port"]) for server in it.servers]
    needed += [(it.servers[0], "tcp", it.settings["enrolment_port"])]
    for server, protocol, port in needed:
        address = ipaddress.ip_address(server)
        if not any(
            (access.protocol, access.port) == (protocol, port) and address in access.network
            for access in policy.access("egress")
        ):
            yield (
                f"{path}: does not let this host out to {server}, {protocol} port {port}; name the "
                "server in hardening:networks:ossec"
            )
