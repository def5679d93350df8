"""Which paths the options of a Salt master name, and why each belongs to it or does not."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

OWN = "/etc/rocksalt"
"""Our own settings, and the keys that sign and deliver snapshots."""
HEADERS = "/var/lib/rocksalt/luks-headers"
"""Copies of the headers of encrypted disks, which ``luks.collect`` fetched from minions."""

# What Salt names by itself: nobody who has not made one of them misses it.
_BY_DEFAULT = (
    "/srv/salt", "/srv/spm/salt", "/srv/pillar", "/srv/spm/pillar", "/srv/salt-master",
    "/srv/thorium", "/var/cache/salt/master/extmods/utils", "/etc/salt/gpgkeys", OWN,
)  # fmt: skip
# Folders in which a configuration file stands beside those of others.
_SHARED = ("/", "/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/usr", "/usr/local/etc", "/var")
_SYSTEM = ("/bin", "/boot", "/dev", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys")
_KEYS = (
    "ssl_crt", "ssl_key", "ssl_chain", "privkey", "pubkey", "certfile", "keyfile", "ca_certs",
)  # fmt: skip
_ROOTS = ("file_roots", "pillar_roots", "master_roots", "thorium_roots")
_GIT = ("gitfs_", "git_pillar_", "winrepo_")
_FILES = (
    "autosign_file", "autoreject_file", "autosign_grains_dir", "roster_file", "rosters", "ssh_priv",
    "winrepo_dir", "winrepo_dir_ng", "formula_path", "pillar_path", "reactor_path", "pass_dir",
    "cloud_config", "providers_config", "profiles_config", "deploy_scripts_search_path",
)  # fmt: skip
_CACHES = (
    "cachedir",
    "token_dir",
    "syndic_dir",
    "sqlite_queue_dir",
    "spm_cache_dir",
    "spm_build_dir",
)
_LOGS = (
    "log_file", "key_logfile", "ssh_log_file", "syndic_log_file", "api_logfile",
    "pidfile", "api_pidfile", "syndic_pidfile", "sock_dir",
)  # fmt: skip
_FREE = (
    "ext_pillar", "external_auth", "gitfs_remotes", "hgfs_remotes", "svnfs_remotes", "reactor",
    "rest_cherrypy", "rest_tornado", "rest_wsgi", "roster_defaults", "sdb", "ssl",
)  # fmt: skip


class Named(NamedTuple):
    """An absolute path and the option that names it; one that ``must`` exist is missed."""

    path: str
    why: str
    must: bool = True


def is_system(path: str) -> bool:
    """Whether a path belongs to the operating system, which nobody restores from a backup of a
    Salt master.
    """
    if path.startswith("/usr/") and not path.startswith("/usr/local/"):
        return True
    return any(path == folder or path.startswith(folder + "/") for folder in (*_SYSTEM, "/usr"))


def config_dir(opts: Mapping[str, Any]) -> str:
    """Where the master's configuration is."""
    return os.path.dirname(os.path.abspath(str(opts["conf_file"])))


def belonging(opts: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Named]:
    """Everything that has to be packed, except what belongs to customers."""
    yield Named(OWN, OWN, must=False)
    yield Named(HEADERS, "luks.collect", must=False)
    yield from _configuration(opts)
    yield from vital(opts)
    for option in _ROOTS:
        yield from _roots(option, opts.get(option))
    for option in sorted(opts):
        if option.endswith("_dirs"):
            yield from _each(option, opts[option])
    yield from _each("extension_modules", opts.get("extension_modules"), must=False)
    for option in _FILES:
        yield from _each(option, opts.get(option), must=option == "ssh_priv")
    for option in sorted(opts):
        if option.startswith(_GIT) and option.endswith(("privkey", "pubkey")):
            yield from _each(option, opts[option])
    for option in _FREE:
        yield from _mentioned(option, opts.get(option))
    yield from _each("hardening:backup:extra", settings["extra"])


def vital(opts: Mapping[str, Any]) -> Iterator[Named]:
    """The keys without which no master is rebuilt."""
    for option in ("pki_dir", "cluster_pki_dir"):
        yield from _each(option, opts.get(option))
    for folder in filter(None, (opts.get("pki_dir"), opts.get("cluster_pki_dir"))):
        for name in ("master.pem", "master.pub", "cluster.pem", "cluster.pub"):
            yield Named(os.path.join(str(folder), name), "the key of the master", must=False)
    folder = opts.get("gpg_keydir") or f"{config_dir(opts)}/gpgkeys"
    yield Named(str(folder), "gpg_keydir", must=bool(opts.get("gpg_keydir")))


def disposable(opts: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Named]:
    """What must not be packed, although it may lie below something that is."""
    for option in _CACHES:
        yield from _each(
            f"{option}: caches, jobs, tokens and sessions, which Salt makes anew", opts.get(option)
        )
    for option in _LOGS:
        yield from _each(f"{option}: of the running master only", opts.get(option))
    for folder in filter(None, (opts.get("cluster_pki_dir"), opts.get("pki_dir"))):
        yield Named(f"{folder}/.aes", "the session key of the cluster")
    yield Named(settings["spool"], "hardening:backup:spool")
    yield from _each("hardening:backup:exclude", settings["exclude"])


def unknown(opts: Mapping[str, Any]) -> Iterator[Named]:
    """Every other path that an option names and that exists: whether the master needs it, only its
    administrator can say.
    """
    for option in sorted(opts):
        for path in _absolute(opts[option]):
            if os.path.exists(path) and not is_system(path) and path not in _SHARED:
                yield Named(path, option)


def _configuration(opts: Mapping[str, Any]) -> Iterator[Named]:
    """The folder of the configuration, or the files alone where the folder is not Salt's own."""
    folder = config_dir(opts)
    if folder in _SHARED:
        yield Named(os.path.abspath(str(opts["conf_file"])), "conf_file")
    else:
        yield Named(folder, "conf_file")
    for option in ("default_include", "include"):
        for pattern in _texts(opts.get(option)):
            pattern = os.path.join(folder, pattern)
            place = os.path.dirname(pattern)
            if place in _SHARED or glob.has_magic(place):
                yield from (Named(path, option) for path in sorted(glob.glob(pattern)))
            else:
                yield Named(place, option, must=False)


def _roots(option: str, environments: Any) -> Iterator[Named]:
    """The folders of every environment; one for any environment becomes those that exist."""
    if not isinstance(environments, Mapping):
        return
    for environment, folders in environments.items():
        for folder in _texts(folders):
            yield from _expanded(f"{option}:{environment}", folder.replace("__env__", "*"))


def _each(option: str, value: Any, must: bool = True) -> Iterator[Named]:
    for text in _texts(value):
        if text.startswith("/"):
            yield from _expanded(option, text, must)


def _expanded(option: str, path: str, must: bool = True) -> Iterator[Named]:
    if glob.has_magic(path) and not os.path.lexists(path):
        found = sorted(glob.glob(path))
        yield from (Named(match, option, must) for match in found)
        must, path = must and not found, path if not found else ""
    if path:
        yield Named(path, option, must and path not in _BY_DEFAULT)


def _mentioned(option: str, value: Any) -> Iterator[Named]:
    """What an option with a free form names: keys and certificates have to be there, anything else
    is packed where it exists and is not the operating system's.
    """
    for path in _absolute(value):
        if os.path.exists(path) and not is_system(path):
            yield Named(path, option)
    yield from (Named(path, option) for path in _keys(value) if not os.path.exists(path))


def _keys(value: Any) -> Iterator[str]:
    """The paths given for keys and certificates, at any depth."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            if key in _KEYS and isinstance(below, str) and below.startswith("/"):
                yield below
            else:
                yield from _keys(below)
    elif isinstance(value, (list, tuple)):
        for below in value:
            yield from _keys(below)


def _absolute(value: Any) -> Iterator[str]:
    """The absolute paths among the words of every text in a value, with globs expanded."""
    for text in _texts(value):
        try:
            words = shlex.split(text)
        except ValueError:  # no command line: an odd quote
            words = text.split()
        for word in [text, *words] if words != [text] else words:
            word = word.removeprefix("file://").removeprefix("^")
            if word.startswith("/") and "\0" not in word:
                yield from sorted(glob.glob(word)) if glob.has_magic(word) else [word]


def _texts(value: Any) -> Iterable[str]:
    """Every text in a value, at any depth, keys as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(key)
            yield from _texts(below)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for below in value:
            yield from _texts(below)
