"""salt-api: which clients it serves, through which door, and where and how it listens."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from rocksalt import access, systemd
from rocksalt.access import compiled, controls, door, knocking, master, rendering, running
from rocksalt.access.door import conf
from rocksalt.access.facts import API, ROOT, Checks, Facts
from rocksalt.findings import AS_RENDERED, Seen, compared, show, some
from rocksalt.firewall import sockets
from rocksalt.host import Host
from rocksalt.nrpe.tls import REFUSED, SERVED, SILENT, UNTOLD
from rocksalt.pki import certificates
from rocksalt.transaction import ASIDE

PLAIN, FOLDER = "root:root 0644", "root:root 0755"
FOLDERS = (access.DOOR, door.NETAPI_DIR, door.AUTH_DIR, door.PACKAGE_DIR)
SERVERS = ("rest_cherrypy", "rest_tornado", "rest_wsgi")
"""Salt's own servers of HTTP: each starts where the configuration has its name."""
COMPILED = "__pycache__"
_PID = re.compile(r"pid=(\d+),fd=")
_OPTIONS, _DECLARED = "options of the door", "as declared"
_SHOWN = "the certificate that is shown"
UNCERTIFIED = f"salt-api has no certificate with its key yet ({controls.GENUINE})"
_ON_DISK = "the one on the disk"


# What it serves -----------------------------------------------------------------------------------


def _clients_expected(it: Facts) -> dict[str, Any]:
    clients = sorted(compiled.clients(it.settings, it.now))
    return {"netapi_enable_clients": clients, **rendering.NO_WAY_ROUND}


def _clients_seen(it: Facts) -> Seen:
    wanted = _clients_expected(it)
    actual = {key: it.option(key) for key in wanted}
    actual["netapi_enable_clients"] = sorted(actual["netapi_enable_clients"] or [])
    why = some(
        f"{key} is {show(value)}, expected {show(wanted[key])}{it.said_by(key)}"
        for key, value in actual.items()
        if value != wanted[key]
    )
    return Seen(actual, why)


def _alone_expected(it: Facts) -> dict[str, Any]:
    return {"servers beside it": [], "files of its user": [], _OPTIONS: _DECLARED}


def _alone_seen(it: Facts) -> Seen:
    """Servers of HTTP beside the door, which are those that are configured, modules of others, and
    a second salt-api; files that salt-api alone lays over the configuration; and whether the door
    has the limits that are declared, and is found at all.
    """
    found = [f"{name}{it.said_by(name)}" for name in SERVERS if it.option(name)]
    folders = [folder for folder in it.option("netapi_dirs") or [] if folder != door.NETAPI_DIR]
    folders.append(f"{it.option('extension_modules')}/netapi")
    folders += [f"{top}/{name}" for top in it.option("module_dirs") or [] for name in _NETAPI]
    found += [path for folder in folders for path in it.host.glob(f"{folder}/{_MODULES}")]
    why = [f"salt-api starts {some(found)} as well"] if found else []
    why += [f"{stray} is a salt-api that is not {API}" for stray in it.other_apis]
    why += [f"salt-api lays {path} over the master's configuration" for path in it.personal]
    other = _other_options(it)
    actual = {
        "servers beside it": [*found, *it.other_apis],
        "files of its user": it.personal,
        _OPTIONS: other or _DECLARED,
    }
    return Seen(actual, some([*why, *other]))


def _other_options(it: Facts) -> list[str]:
    """What another file makes of the options of the door, and of where Salt looks for it."""
    wanted = rendering.api(it.settings) if it.setup.serves else None
    have = it.option(conf.SECTION)
    differing = [key for key in {**(wanted or {}), **(have or {})}
                 if (wanted or {}).get(key) != (have or {}).get(key)]  # fmt: skip
    found = [
        f"{conf.SECTION}:{key} is {show((have or {}).get(key))}, "
        f"expected {show((wanted or {}).get(key)) or 'nothing'}{it.said_by(conf.SECTION, key)}"
        for key in sorted(differing)
    ]
    folders = {"netapi_dirs": door.NETAPI_DIR, "auth_dirs": door.AUTH_DIR}
    return found + [
        f"{option} does not have {folder}{it.said_by(option)}"
        for option, folder in folders.items()
        if folder not in (it.option(option) or [])
    ]


_NETAPI = ("netapi", "_netapi")
_MODULES = "[!_]*"
"""Salt loads packages and compiled modules as well as sources, but none of these."""


# The door's program -------------------------------------------------------------------------------


def _door_expected(it: Facts) -> dict[str, Any]:
    files = dict.fromkeys(rendering.door_files(), f"{AS_RENDERED}, {PLAIN}")
    return {**dict.fromkeys(FOLDERS, FOLDER), **files, "beside": []}


def _door_seen(it: Facts) -> Seen:
    wanted, actual = _door_expected(it), dict[str, Any]()
    for path in FOLDERS:
        actual[path] = it.host.access(path)
    for path, text in rendering.door_files().items():
        rights = it.host.access(path)
        state = "is a link" if it.host.path(path).is_symlink() else ""
        state = state or compared(it.host.read(path), text)
        actual[path] = f"{state}, {rights}" if rights else None
    why = [
        f"{path} {have or 'does not exist'}"
        for path, have in actual.items()
        if have != wanted[path]
    ]
    beside, before = foreign(it), shadowing(it)
    why += [f"{path} is not of the door" for path in beside]
    remedy = "manual" if before and not why else ""
    why += [f"Salt loads {path} in place of the door's" for path in before]
    return Seen({**actual, "beside": [*beside, *before]}, some(why), remedy=remedy)


def foreign(it: Facts) -> list[str]:
    """What others put beside the door's files. Compiled modules are run in place of their sources,
    so they are foreign, too, unless it is root who runs salt-api and makes them.
    """
    known = {*FOLDERS, *rendering.door_files()}
    found = [path for folder in FOLDERS for path in it.host.glob(f"{folder}/*")]
    found += [path for folder in FOLDERS for path in it.host.glob(f"{folder}/.*")]
    made = COMPILED if it.user == ROOT else ""
    return [
        path
        for path in found
        if path not in known and not path.endswith(ASIDE) and path.rpartition("/")[2] != made
    ]


def aside(host: Host, path: str) -> str:
    """A name that nothing has yet, for what is put aside: it may be there for the second time."""
    names = (f"{path}{number}{ASIDE}" for number in _numbers())
    return next(name for name in names if host.attributes(name, follow=False) is None)


def _numbers() -> Iterator[str]:
    yield ""
    yield from (f".{number}" for number in itertools.count(2))


def shadowing(it: Facts) -> list[str]:
    """Modules of others with the names of the door's, where Salt looks for such."""
    found = []
    for kind, own in (("netapi", door.NETAPI_DIR), ("auth", door.AUTH_DIR)):
        folders = [folder for folder in it.option(f"{kind}_dirs") or [] if folder != own]
        folders.append(f"{it.option('extension_modules')}/{kind}")
        tops = it.option("module_dirs") or []
        folders += [f"{top}/{name}" for top in tops for name in (kind, f"_{kind}")]
        names = (door.NETAPI,) if kind == "netapi" else (door.AUTH, door.LDAP)
        places = [f"{folder}/{name}*" for folder in folders for name in names]
        found += [path for place in places for path in it.host.glob(place)]
    return found


# How it runs and where it listens -----------------------------------------------------------------


def files(it: Facts) -> list[str]:
    """What salt-api reads when it starts."""
    tls = [it.settings["tls_certificate"], it.settings["tls_key"], it.settings["client_ca"]]
    own = [*rendering.door_files(), *master.program_files(it, API)]
    return [*master.config_files(it), *own, *filter(None, tls)]


def _service_expected(it: Facts) -> dict[str, str]:
    return {API: master.RUNS, master.STARTED: master.AFTER}


def _service_seen(it: Facts) -> Seen:
    if not it.is_installed(API):
        return Seen(None, "salt-api is not installed: apt-get install salt-api", remedy="manual")
    state = systemd.state(it.units[API])
    actual, why = {API: state, master.STARTED: master.AFTER}, []
    if state != master.RUNS:
        why.append(f"{API} is {state}")
    if not it.is_active(API):
        return Seen({**actual, master.STARTED: "not at all"}, some(why))
    if changed := master.later(it, API, dict.fromkeys(files(it))):
        actual[master.STARTED] = f"before {some(changed)}"
        why.append(f"{API} was not started since {some(changed)} changed")
    return Seen(actual, some(why))


def places(it: Facts) -> list[str]:
    """Where processes of salt-api listen, each as ``10.0.0.7 8000``. They choose their own names,
    but not the group of processes that systemd has them in.
    """
    ran = it.host.run("ss", "-Hltnp")
    if ran.status:
        why = " ".join(ran.err.split())
        raise LookupError(f"ss -Hltnp, which lists the sockets of this host, fails: {why}")
    found = set()
    for line in ran.out.splitlines():
        words = line.split()
        pids = _PID.findall(line)
        if words[:1] == ["LISTEN"] and any(_is_of_api(it, pid) for pid in pids):
            address, _, port = words[3].rpartition(":")
            address = address.strip("[]").partition("%")[0]
            found.add(f"{'::' if address == '*' else sockets.normalised(address)} {port}")
    return sorted(found)


def _is_of_api(it: Facts, pid: str) -> bool:
    return running.is_in(API, running.of_process(it.host, pid, "cgroup"))


def _address_expected(it: Facts) -> list[str]:
    if not it.setup.serves:
        return []
    return [f"{sockets.normalised(it.settings['address'])} {it.settings['port']}"]


def _address_seen(it: Facts) -> Seen:
    found, wanted = places(it), _address_expected(it)
    why = [f"salt-api listens on {place}" for place in found if place not in wanted]
    if it.setup.serves and not it.certified:  # it cannot be started as it should be
        if not found:
            return Seen(problem="skipped", reason=UNCERTIFIED)
        return Seen(found, some([*why, UNCERTIFIED]), remedy="manual")
    why += [f"salt-api does not listen on {place}" for place in wanted if place not in found]
    if why and not wanted:
        why.append(f"{it.setup.family.where('address')} is empty, which is no salt-api")
    return Seen(found, some(why))


# TLS ----------------------------------------------------------------------------------------------


def _secured_expected(it: Facts) -> dict[str, str]:
    modern = knocking.NEED_CERTIFICATE if it.settings["client_ca"] else SERVED
    strangers = dict.fromkeys(("TLS 1.1 or older", "unsafe ciphers", "without TLS"), REFUSED)
    return {"without a certificate": modern, **strangers, _SHOWN: _ON_DISK}


def _secured_seen(it: Facts) -> Seen:
    said, wanted = it.answers, _secured_expected(it)
    if said.modern == SILENT:
        where = f"{it.reached_at} port {it.settings['port']}"
        return Seen({"without a certificate": SILENT}, f"salt-api does not answer on {where}")
    outcomes = (said.modern, said.old_tls, said.unsafe_ciphers, said.plain, _shown(it))
    actual = dict(zip(wanted, outcomes, strict=True))
    why = [f"{way}: {out}" for way, out in actual.items() if out != wanted[way]]
    untold = [f"{way}: {out}" for way, out in actual.items() if out.startswith(UNTOLD)]
    if untold and untold == why:
        return Seen(problem="error", reason=some(untold))
    return Seen(actual, some(why))


def _shown(it: Facts) -> str:
    """Which certificate the running salt-api shows."""
    shown = it.answers.certificate
    if shown == certificates.fingerprint(it.chain[0]):
        return _ON_DISK
    return f"another one ({shown[:16]})" if shown else "none"


CHECKS: Checks = {
    controls.CLIENTS: (_clients_expected, _clients_seen),
    controls.ALONE: (_alone_expected, _alone_seen),
    controls.DOOR: (_door_expected, _door_seen),
    controls.SERVICE: (_service_expected, _service_seen),
    controls.ADDRESS: (_address_expected, _address_seen),
    controls.SECURED: (_secured_expected, _secured_seen),
}
