"""Where the baseline of a host comes from: the master's files and pillar, or the snapshot of the
last render.

The modules hand their dunders in; everything they need to know about Salt is here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from rocksalt import catalogue, settings
from rocksalt.errors import InvalidSettings, RocksaltError
from rocksalt.host import Host

STATE_DIR = "/var/lib/rocksalt"
_PREFIX = "hardening/"
_CONTEXT = "rocksalt"


def load(
    salt: Mapping[str, Any],
    opts: Mapping[str, Any],
    pillar: Mapping[str, Any],
    grains: Mapping[str, Any],
    context: MutableMapping[str, Any],
    saltenv: str | None = None,
) -> settings.Baseline:
    """The baseline of this minion, parsed once per job.

    Live from the file server of ``saltenv``; where that has no catalogue (the master is away and
    the file client is local), from the snapshot that the last render left. With neither there is no
    judgement: :class:`RocksaltError`.
    """
    saltenv = saltenv or opts.get("saltenv") or "base"
    key = (saltenv, json.dumps(pillar.get("hardening"), sort_keys=True, default=str))
    if context.get(_CONTEXT, (None,))[0] != key:
        context[_CONTEXT] = (key, _load(salt, opts, pillar, grains, saltenv))
    baseline: settings.Baseline = context[_CONTEXT][1]
    return baseline


def _load(
    salt: Mapping[str, Any],
    opts: Mapping[str, Any],
    pillar: Mapping[str, Any],
    grains: Mapping[str, Any],
    saltenv: str,
) -> settings.Baseline:
    files = [path for path in salt["cp.list_master"](saltenv) if path.startswith(_PREFIX)]
    names = [
        path.split("/")[1]
        for path in files
        if path.count("/") == 2 and path.endswith("/controls.yaml")
    ]
    if not names:
        return _cached(opts, saltenv)
    if pillar.get("_errors"):
        raise InvalidSettings(
            ["the pillar did not render: " + " ".join(map(str, pillar["_errors"]))]
        )

    shipped = {} if opts.get("file_client") == "local" else _bundle(salt, saltenv, files)
    sources = {n: shipped.get(n) or _from_yaml(n, files, salt, saltenv) for n in names}
    system = operating_system(grains)
    own = opts.get("hardening") or {}
    return settings.resolve(
        {n: catalogue.family(n, s["controls"], s["defaults"]) for n, s in sources.items()},
        pillar.get("hardening") or {},
        {n: _for_system(n, system, s["os"]) for n, s in sources.items()},
        str(opts.get("id", "")),
        own.get("roles", ()),
    )


def _fetch(path: str, salt: Mapping[str, Any], saltenv: str) -> str:
    local = salt["cp.cache_file"](f"salt://{path}", saltenv=saltenv)
    if not local:
        raise RocksaltError(f"salt://{path} could not be fetched from saltenv {saltenv}")
    return Path(local).read_text()


def _bundle(salt: Mapping[str, Any], saltenv: str, files: list[str]) -> dict[str, Any]:
    """The shipped families from one file: a request to the master costs a minion a tenth of a
    second, and a baseline is some dozens of files.
    """
    if catalogue.BUNDLE not in files:
        return {}
    found: dict[str, Any] = json.loads(_fetch(catalogue.BUNDLE, salt, saltenv))
    return found


def _from_yaml(
    name: str, files: list[str], salt: Mapping[str, Any], saltenv: str
) -> dict[str, Any]:
    """A family that is not in the bundle (a site's own), or any family on a host without master."""

    def read(path: str) -> Any:
        return catalogue.parse_yaml(_fetch(path, salt, saltenv), f"salt://{path}")

    folder = f"{_PREFIX}{name}/"
    systems = [path for path in files if path.startswith(f"{folder}os/")]
    return {
        "controls": read(f"{folder}controls.yaml"),
        "defaults": read(f"{folder}defaults.yaml"),
        "os": {path.rsplit("/", 1)[-1].removesuffix(".yaml"): read(path) for path in systems},
    }


def operating_system(grains: Mapping[str, Any]) -> str:
    """``debian-12``: the name and major version that ``os/<this>.yaml`` of a family is called
    after.
    """
    return f"{grains.get('os', 'unknown')}-{grains.get('osmajorrelease', 'unknown')}".lower()


def _for_system(family: str, system: str, known: Mapping[str, Any]) -> Any:
    if system not in known:
        supported = ", ".join(sorted(known)) or "no system yet"
        raise InvalidSettings(
            [f"the family {family} does not support {system}; it supports {supported}"]
        )
    return known[system] or {}


def state_dir(opts: Mapping[str, Any]) -> str:
    """Where the snapshot and the last report live; the minion's own configuration may move it."""
    return str((opts.get("hardening") or {}).get("state_dir", STATE_DIR))


def snapshot_path(opts: Mapping[str, Any], saltenv: str) -> str:
    """The file that keeps the settings of one environment."""
    return f"{state_dir(opts)}/settings-{saltenv}.json"


def store(baseline: settings.Baseline, opts: Mapping[str, Any], saltenv: str) -> None:
    """Keeps the baseline, without secrets, for the day when the master is away."""
    text = json.dumps(settings.to_snapshot(baseline), default=str)
    Path(state_dir(opts)).mkdir(mode=0o750, parents=True, exist_ok=True)
    Host().write(snapshot_path(opts, saltenv), text, mode="0600")


def _cached(opts: Mapping[str, Any], saltenv: str) -> settings.Baseline:
    path = snapshot_path(opts, saltenv)
    text = Host().read(path)
    if text is None:
        raise RocksaltError(
            f"there is no hardening/ in the file root of saltenv {saltenv} and no settings cached "
            f"in {path}: run state.apply hardening once, or set file_roots"
        )
    try:
        return settings.from_snapshot(json.loads(text))
    except (ValueError, KeyError, TypeError):
        raise RocksaltError(
            f"{path} is damaged: run state.apply hardening once to write it again"
        ) from None
