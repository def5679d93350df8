"""What is expected of a host: its baseline, from the pillar that its master gives it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from testinfra.host import Host

from rocksalt import catalogue, settings
from rocksalt.errors import InvalidSettings

from .asking import Answer, ask

FAMILIES = Path(__file__).parents[2] / "salt/hardening"
MASKED = "**********"
# Salt shows values of the pillar to nobody but what it renders, so the host renders this. Secrets
# stay there: of passwords there is a digest, to compare them with what is on the host.
ASKED = """
{%- set it = {"id": opts["id"], "os": [grains["os"], grains["osmajorrelease"]],
    "roles": (opts.get("hardening") or {}).get("roles", []), "digests": {},
    "errors": pillar.get("_errors") or [], "pillar": pillar.get("hardening")} %}
{%- set tree = it.pillar if it.pillar is mapping else {} %}
{%- if tree.get("accounts") is mapping and tree.accounts.get("password_hashes") is mapping %}
{%- for name, hash in tree.accounts.password_hashes.items() %}
{%- do it.digests.update({name: (hash | string) | sha256}) %}{% endfor %}{% endif %}
{%- for family, key in SECRETS %}{% if tree.get(family) is mapping %}
{%- do tree[family].pop(key, none) %}{% endif %}{% endfor %}
{{- it | yaml(False) }}
"""
WITHOUT_SALT = """
. /etc/os-release; host=$(hostname)
printf '{"id": "%s", "os": ["%s", "%s"]}' "$host" "$ID" "${VERSION_ID%%.*}"
"""


class NoPillar(Exception):
    """A pillar that cannot be had, or is not valid, in sentences."""


@dataclass(frozen=True)
class Expected:
    """The baseline of one host, its minion id, and digests (SHA-256) of declared passwords."""

    minion: str
    baseline: settings.Baseline
    digests: Mapping[str, str]


@cache
def families() -> dict[str, catalogue.FamilyCatalogue]:
    """The catalogue, by family."""

    def read(path: Path) -> Any:
        return catalogue.parse_yaml(path.read_text(), str(path))

    return {
        path.parent.name: catalogue.family(
            path.parent.name, read(path), read(path.with_name("defaults.yaml"))
        )
        for path in sorted(FAMILIES.glob("*/controls.yaml"))
    }


def expected(host: Host, file: str | None) -> Expected:
    """What is expected of the host by its own pillar, or by that of a file."""
    name = host.backend.get_pytest_id()
    facts = _of_host(host, local=file is not None)
    if file:
        facts["pillar"] = from_text(Path(file), facts["id"])
        declared = facts["pillar"].get("accounts")
        hashes = declared.get("password_hashes") if isinstance(declared, dict) else None
        facts["digests"] = {
            user: hashlib.sha256(str(one).encode()).hexdigest()
            for user, one in (hashes or {}).items()
        }
    if facts.get("errors"):
        raise NoPillar(f"the pillar of {name} does not render: {'; '.join(facts['errors'])}")
    if facts["pillar"] is None:
        raise NoPillar(
            f"the pillar of {name} (minion {facts['id']}) has no key hardening: give it one as in "
            "pillar/hardening.sls, or name a file with --pillar"
        )
    system = "-".join(map(str, facts["os"])).lower()
    try:
        baseline = settings.resolve(
            families(),
            facts["pillar"],
            {family: _of_system(family, system) for family in families()},
            facts["id"],
            facts.get("roles") or (),
        )
    except InvalidSettings as error:
        raise NoPillar(
            f"the pillar for {name} is not valid: " + "; ".join(error.problems)
        ) from None
    return Expected(facts["id"], baseline, facts["digests"])


def _of_system(family: str, system: str) -> Any:
    path = FAMILIES / family / "os" / f"{system}.yaml"
    if not path.exists():
        known = ", ".join(sorted(it.stem for it in path.parent.glob("*.yaml")))
        raise NoPillar(f"the baseline does not know {system}; it knows {known}")
    return catalogue.parse_yaml(path.read_text(), str(path)) or {}


def _of_host(host: Host, local: bool) -> dict[str, Any]:
    """What Salt on the host knows of it; with a pillar from elsewhere it need not have Salt."""
    secret = [
        [name, key]
        for name, family in families().items()
        for key, spec in family.schema.items()
        if spec.get("secret")
    ]
    words = "--local" if local else "--no-return-event"
    template = " ".join(ASKED.split()).replace("SECRETS", json.dumps(secret))
    call = f"salt-call {words} --out=json --log-level=error slsutil.renderer"
    render = f"{call} string={_quoted(template)} default_renderer=jinja"
    without = WITHOUT_SALT.strip() if local else "echo salt-call is not there; exit 127"
    command = f"if command -v salt-call >/dev/null; then {render}; else {without}; fi"
    return _parsed(ask(host, {"salt": command})["salt"], host.backend.get_pytest_id())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _parsed(answer: Answer, name: str) -> dict[str, Any]:
    """The answer of salt-call, which may say other things before it."""
    start = answer.text.find("{")
    try:
        found = json.loads(answer.text[start:])
        it = yaml.safe_load(found["local"]) if "local" in found else found
        return {"pillar": None, "digests": {}, **it}
    except (ValueError, TypeError, yaml.YAMLError):
        said = " ".join(answer.said.split())[-300:] or "nothing"
        raise NoPillar(
            f"salt-call on {name} did not give its pillar; it said: {said}. Name a file with the "
            "pillar: --pillar FILE"
        ) from None


def from_text(path: Path, minion: str) -> dict[str, Any]:
    """The pillar of a file: the value of hardening, alone or under its name, or what ``salt-call
    pillar.items`` or ``salt '*' pillar.items`` printed.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise NoPillar(f"--pillar {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise NoPillar(
            f"--pillar {path}: is not YAML ({problem}); a file with Jinja has to be rendered "
            "first: salt-call pillar.items unmask=True --out=yaml"
        ) from None
    for key in ("local", minion):
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            tree = tree[key]
    if isinstance(tree, dict) and "hardening" in tree:
        tree = tree["hardening"]
    elif not isinstance(tree, dict) or set(tree) - {*families(), *settings.RESERVED}:
        keys = ", ".join(map(str, tree)) if isinstance(tree, dict) else repr(tree)
        raise NoPillar(
            f"--pillar {path}: has no key hardening for the minion {minion}, only {keys}"
        )
    if MASKED in json.dumps(tree, default=str):
        raise NoPillar(
            f"--pillar {path}: Salt masked its values; print it by "
            "salt-call pillar.items unmask=True --out=yaml"
        )
    return tree or {}
