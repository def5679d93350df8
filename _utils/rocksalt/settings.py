"""Settings: defaults, operating system, roles and pillar become one validated baseline for one
host.

``hardening.settings(family)`` = ``defaults.yaml`` -> ``os/<os>-<major>.yaml`` -> the host's roles
-> pillar ``hardening:<family>``. Mappings merge, lists replace. Everything is validated together,
before anything is rendered.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rocksalt import __version__, schema
from rocksalt.catalogue import Control, FamilyCatalogue, below_floor, in_order
from rocksalt.catalogue import family as describe
from rocksalt.errors import InvalidSettings

SCHEMA = 1
RESERVED = ("schema", "roles", "networks", "waivers")
LONGEST_WAIVER = dt.timedelta(days=90)
SECRET = "***"
_NOWHERE = object()


@dataclass(frozen=True)
class Waiver:
    """A debt with an end: ``expires`` is the last day (UTC) on which the control may differ."""

    reason: str
    owner: str
    approver: str
    expires: dt.date

    def active(self, today: dt.date) -> bool:
        return today <= self.expires


@dataclass(frozen=True)
class Family:
    """One family as it applies to this host: its settings, and the controls switched off for good
    with their reason.
    """

    catalogue: FamilyCatalogue
    settings: Mapping[str, Any]
    off: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def where(self, *keys: str) -> str:
        """The path at which a setting, or a key below it, got the value it has: that of the pillar,
        or of the role that says so.
        """
        top = f"hardening:{self.catalogue.name}"
        for path, layer in reversed(self.layers):
            value: Any = layer
            for key in keys:
                value = value.get(key, _NOWHERE) if isinstance(value, Mapping) else _NOWHERE
            if value is not _NOWHERE:
                top = path
                break
        return ":".join((top, *keys))

    @property
    def controls(self) -> Mapping[str, Control]:
        return self.catalogue.controls

    @property
    def public_settings(self) -> dict[str, Any]:
        """The settings with every secret replaced."""
        specs = self.catalogue.schema
        return {k: SECRET if specs[k].get("secret") and v else v for k, v in self.settings.items()}

    def below_floor(self, control: Control) -> str:
        """The sentence that says which setting asks for less than the baseline accepts; empty when
        none does.
        """
        for setting, rule in control.floor.items():
            value = self.settings[setting]
            weaker = below_floor(value, rule)
            if weaker:
                return f"hardening:{self.catalogue.name}:{setting} is {value!r}: {weaker}"
        return ""


@dataclass(frozen=True)
class Baseline:
    """Everything expected of one host. ``source`` is ``live`` or ``cached``; ``time`` is when it
    was put together.
    """

    families: Mapping[str, Family]
    networks: Mapping[str, list[str]]
    roles: tuple[str, ...]
    waivers: Mapping[str, Waiver]
    warnings: tuple[str, ...]
    time: dt.datetime
    source: str = "live"

    def excused(self, family: Family, today: dt.date) -> dict[str, tuple[str, str]]:
        """Controls that are left as found: id -> (status, reason). An expired waiver excuses
        nothing.
        """
        excuses = {i: ("skipped", f"switched off: {reason}") for i, reason in family.off.items()}
        for identifier in family.controls:
            waiver = self.waivers.get(identifier)
            if waiver and waiver.active(today):
                reason = f"waived until {waiver.expires} for {waiver.owner}: {waiver.reason}"
                excuses[identifier] = ("waived", reason)
        return excuses


def merge(base: Any, over: Any) -> Any:
    """``over`` laid on ``base``: mappings merge key by key, everything else replaces."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: merge(base.get(key), value) for key, value in over.items()}}
    return over


def resolve(
    catalogue: Mapping[str, FamilyCatalogue],
    pillar: Mapping[str, Any],
    os_settings: Mapping[str, Mapping[str, Any]],
    minion_id: str,
    extra_roles: Iterable[str] = (),
    now: dt.datetime | None = None,
) -> Baseline:
    """The baseline of one host, or :class:`InvalidSettings` with every problem found.

    ``pillar`` is the value of the pillar key ``hardening``; ``os_settings`` the parsed
    ``os/<os>-<major>.yaml`` of each family; ``extra_roles`` the roles that the minion's own
    configuration names.
    """
    now = now or dt.datetime.now(dt.timezone.utc)
    if not isinstance(pillar, Mapping):
        raise InvalidSettings([f"hardening: {pillar!r} is not a mapping of families and settings"])
    warnings: list[str] = []
    found = _top_level(catalogue, pillar)
    networks = pillar.get("networks") or {}
    found += _network_problems(networks)
    role_layers, faults = _roles(
        pillar.get("roles") or {}, catalogue, minion_id, extra_roles, warnings
    )
    found += faults
    families = {}
    for name in in_order(catalogue):
        path = f"hardening:{name}"
        over = _renamed(catalogue[name], pillar.get(name, {}), path, warnings)
        found += _family_problems(catalogue[name], over, path)
        found += _family_problems(
            catalogue[name], os_settings.get(name, {}), f"hardening/{name}/os of this system"
        )
        if isinstance(over, Mapping) and not found:
            layers = (
                (f"hardening/{name}/os of this system", os_settings.get(name, {})),
                *(
                    (f"hardening:roles:{role}:settings:{name}", layer.get(name, {}))
                    for role, layer in role_layers.items()
                ),
                (path, over),
            )
            families[name] = _family(catalogue[name], layers)
    waivers, faults = _waivers(pillar.get("waivers") or {}, catalogue, now.date())
    found += faults
    if found:
        raise InvalidSettings(found)
    return Baseline(families, networks, tuple(role_layers), waivers, tuple(warnings), now)


def _top_level(catalogue: Mapping[str, Any], pillar: Mapping[str, Any]) -> list[str]:
    known = (*catalogue, *RESERVED)
    found = [
        f"hardening:{key}: no such family or key{schema.nearest(str(key), known)}"
        for key in pillar
        if key not in known
    ]
    version = pillar.get("schema", SCHEMA)
    if version != SCHEMA:
        found.append(
            f"hardening:schema: {version!r} is not {SCHEMA}, the only schema this version reads"
        )
    return found


def _network_problems(networks: Any) -> list[str]:
    spec = {
        "type": "mapping",
        "values": {"type": "list", "items": {"type": "string", "format": "network"}},
    }
    return schema.problems(networks, spec, "hardening:networks")


def _roles(
    roles: Any,
    catalogue: Mapping[str, FamilyCatalogue],
    minion_id: str,
    extra: Iterable[str],
    warnings: list[str],
) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """The roles of this minion in the order they are written, with their settings, and what is
    wrong with any role.
    """
    path = "hardening:roles"
    if not isinstance(roles, Mapping):
        return {}, [f"{path}: {roles!r} is not a mapping of role names"]
    extra = list(extra)
    found = [
        f"the minion's configuration, {path}: no role {name!r}{schema.nearest(name, roles)}"
        for name in extra
        if name not in roles
    ]
    mine: dict[str, Mapping[str, Any]] = {}
    for name, role in roles.items():
        faults = _role_problems(role, catalogue, f"{path}:{name}")
        found += faults
        if not faults and (name in extra or _matches(minion_id, role.get("minions", []))):
            mine[name] = {
                family: _renamed(
                    catalogue[family], over, f"{path}:{name}:settings:{family}", warnings
                )
                for family, over in role.get("settings", {}).items()
            }
    return mine, found


def _matches(minion_id: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(minion_id, pattern) for pattern in patterns)


def _role_problems(role: Any, catalogue: Mapping[str, FamilyCatalogue], path: str) -> list[str]:
    if not isinstance(role, Mapping) or set(role) - {"minions", "settings"}:
        return [
            f"{path}: needs minions (a list of ids or globs) and settings (a mapping of families)"
        ]
    found = schema.problems(role.get("minions", []), {"type": "list"}, f"{path}:minions")
    settings = role.get("settings", {})
    if not isinstance(settings, Mapping):
        return [*found, f"{path}:settings: {settings!r} is not a mapping of families"]
    for name, values in settings.items():
        where = f"{path}:settings:{name}"
        if name not in catalogue:
            found.append(f"{where}: no such family{schema.nearest(str(name), catalogue)}")
            continue
        values = _renamed(catalogue[name], values, where, [])
        found += _family_problems(catalogue[name], values, where)
        if not isinstance(values, Mapping):
            continue
        secret = [key for key in values if catalogue[name].schema.get(key, {}).get("secret")]
        found += [f"{where}:{key}: a secret belongs into its minion's own pillar" for key in secret]
    return found


def _renamed(family: FamilyCatalogue, over: Any, path: str, warnings: list[str]) -> Any:
    """The pillar of a family with names it had before replaced by today's, which win if both are
    there.
    """
    if not isinstance(over, Mapping):
        return over
    today = {old: name for name, spec in family.schema.items() for old in spec.get("formerly", ())}
    result = {}
    for key, value in over.items():
        if key in today:
            warnings.append(f"{path}:{key} is now called {path}:{today[key]}")
            if today[key] in over:
                continue
        result[today.get(key, key)] = value
    return result


def _family_problems(family: FamilyCatalogue, over: Any, path: str) -> list[str]:
    if over is None:
        return [f"{path}: is empty: write settings below it, or leave it out"]
    if not isinstance(over, Mapping):
        return [f"{path}: {over!r} is not a mapping of settings"]
    found = []
    for key, value in over.items():
        if key == "controls":
            found += _off_problems(family, value, f"{path}:controls")
        elif key in family.schema:
            found += schema.problems(value, family.schema[key], f"{path}:{key}")
        else:
            found.append(f"{path}:{key}: no such setting{schema.nearest(str(key), family.schema)}")
    return found


def _off_problems(family: FamilyCatalogue, controls: Any, path: str) -> list[str]:
    if not isinstance(controls, Mapping):
        return [f"{path}: {controls!r} is not a mapping of control ids"]
    found = []
    for identifier, entry in controls.items():
        where = f"{path}:{identifier}"
        found += _unexcusable(identifier, family.controls, where)
        reason = _off_reason(entry)
        if not isinstance(reason, str) or not reason.strip():
            found.append(f'{where}: needs off, with the reason in words: {{off: "why"}}')
    return found


def _off_reason(entry: Any) -> Any:
    """The reason of ``{off: reason}``; YAML 1.1 reads a bare ``off`` as false."""
    if not isinstance(entry, Mapping) or set(entry) - {"off", False} or len(entry) != 1:
        return None
    return next(iter(entry.values()))


def _unexcusable(identifier: str, controls: Mapping[str, Control], path: str) -> list[str]:
    if identifier not in controls:
        return [f"{path}: no such control{schema.nearest(str(identifier), controls)}"]
    if not controls[identifier].waivable:
        return [f"{path}: this control guards against locking everybody out and cannot be excused"]
    return []


def _family(
    catalogue: FamilyCatalogue, layers: tuple[tuple[str, Mapping[str, Any]], ...]
) -> Family:
    settings: dict[str, Any] = {key: spec["default"] for key, spec in catalogue.schema.items()}
    for _, layer in layers:
        settings = merge(settings, layer)
    off = {i: _off_reason(entry) for i, entry in settings.pop("controls", {}).items()}
    return Family(catalogue, settings, off, layers)


def _waivers(
    waivers: Any, catalogue: Mapping[str, FamilyCatalogue], today: dt.date
) -> tuple[dict[str, Waiver], list[str]]:
    if not isinstance(waivers, Mapping):
        return {}, [f"hardening:waivers: {waivers!r} is not a mapping of control ids"]
    controls = {
        i: control for family in catalogue.values() for i, control in family.controls.items()
    }
    result, found = {}, []
    for identifier, entry in waivers.items():
        path = f"hardening:waivers:{identifier}"
        faults = _unexcusable(identifier, controls, path) + _waiver_problems(entry, path, today)
        found += faults
        if not faults:
            result[identifier] = Waiver(**{**entry, "expires": as_date(entry["expires"])})
    return result, found


def _waiver_problems(entry: Any, path: str, today: dt.date) -> list[str]:
    keys = ("reason", "owner", "approver", "expires")
    if not isinstance(entry, Mapping):
        return [f"{path}: {entry!r} is not a mapping with {', '.join(keys)}"]
    found = [f"{path}:{key}: is missing" for key in keys if not entry.get(key)]
    found += [
        f"{path}:{key}: {entry[key]!r} is not a text"
        for key in keys[:3]
        if entry.get(key) and not isinstance(entry[key], str)
    ]
    found += [
        f"{path}:{k}: no such key{schema.nearest(str(k), keys)}" for k in entry if k not in keys
    ]
    owner, approver = (str(entry.get(key, "")).strip().casefold() for key in ("owner", "approver"))
    if owner and owner == approver:
        found.append(
            f"{path}:approver: {entry['approver']!r} owns the waiver; somebody else approves it"
        )
    if entry.get("expires"):
        expires = as_date(entry["expires"])
        if expires is None:
            given, latest = entry["expires"], today + LONGEST_WAIVER
            found.append(f"{path}:expires: {given!r} is not a date such as {latest}")
        elif expires > today + LONGEST_WAIVER:
            latest = today + LONGEST_WAIVER
            found.append(
                f"{path}:expires: {expires} is more than 90 days away; the latest is {latest}"
            )
    return found


def as_date(value: Any) -> dt.date | None:
    """A day from what YAML, JSON or Salt's serialiser made of it; None when it is none."""
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    for layout in ("%Y-%m-%d", "%Y%m%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S"):
        try:
            return dt.datetime.strptime(str(value), layout).date()
        except ValueError:
            continue
    return None


def to_snapshot(baseline: Baseline) -> dict[str, Any]:
    """What ``salt-call --local`` needs to judge the host while the master is away: no secrets,
    plain JSON types.
    """
    return {
        "schema": SCHEMA,
        "version": __version__,
        "time": baseline.time.isoformat(),
        "roles": list(baseline.roles),
        "networks": dict(baseline.networks),
        "waivers": {
            identifier: {**vars(waiver), "expires": waiver.expires.isoformat()}
            for identifier, waiver in baseline.waivers.items()
        },
        "families": {
            name: {
                "sources": family.catalogue.sources,
                "settings": family.public_settings,
                "off": dict(family.off),
            }
            for name, family in baseline.families.items()
        },
    }


def from_snapshot(data: Mapping[str, Any]) -> Baseline:
    """The baseline that :func:`to_snapshot` stored; its ``source`` is ``cached``."""
    families = {}
    for name, stored in data["families"].items():
        sources = stored["sources"]
        described = describe(name, sources["controls"], sources["defaults"])
        families[name] = Family(described, stored["settings"], stored["off"])
    waivers = {
        i: Waiver(**{**entry, "expires": dt.date.fromisoformat(entry["expires"])})
        for i, entry in data["waivers"].items()
    }
    time = dt.datetime.fromisoformat(data["time"])
    return Baseline(
        families, data["networks"], tuple(data["roles"]), waivers, (), time, source="cached"
    )
