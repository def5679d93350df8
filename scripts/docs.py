"""Writes docs/controls.md, docs/settings.md and the bundle that minions fetch from the YAML files
of every family.

With ``--check`` nothing is written, and the exit code is 1 when a page is not what it would be.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SALT = ROOT / "salt"
sys.path.insert(0, str(ROOT / "_utils"))

from rocksalt import catalogue, schema  # noqa: E402

REMEDIES = {
    "state": "`state.apply hardening.{family}`",
    "manual": "by hand",
    "reboot": "a reboot",
}
FLOORS = {
    "equals": "is {}",
    "min": "is at least {}",
    "max": "is at most {}",
    "one_of": "is one of {}",
    "subset_of": "names nothing beyond {}",
    "all_of": "names all of {}",
}
UNITS = {
    "list": (" entry", " entries"),
    "mapping": (" entry", " entries"),
    "string": (" character", " characters"),
}
CONTROLS_INTRO = """\
# Controls

Every promise of the baseline. `drift.report` speaks of them by their ids, and a waiver names one.
The *floor* is the weakest setting that the baseline accepts: a weaker one is drift, unless it is
waived. A *guarded* control is enforced only while an administrator keeps a way in."""
SETTINGS_INTRO = """\
# Settings

Every setting with its default. Overrule one in pillar below `hardening`: `hardening:sshd:ports` is
the key `ports` in the mapping `sshd` in the mapping `hardening`. Mappings are merged, lists
replaced."""
WRITTEN_BY = "<!-- Written by scripts/docs.py: change the YAML files and run `make docs`. -->"


def sources() -> dict[str, Any]:
    """What the YAML files of every family below salt/hardening say."""
    return {
        folder.name: {
            "controls": parsed(folder / "controls.yaml"),
            "defaults": parsed(folder / "defaults.yaml"),
            "os": {path.stem: parsed(path) for path in sorted(folder.glob("os/*.yaml"))},
        }
        for folder in sorted(path.parent for path in SALT.glob("hardening/*/controls.yaml"))
    }


def parsed(path: Path) -> Any:
    """One YAML file; an error names it."""
    return catalogue.parse_yaml(path.read_text(), str(path.relative_to(ROOT)))


def families(found: Mapping[str, Any]) -> dict[str, catalogue.FamilyCatalogue]:
    """The families in the order in which they are enforced."""
    described = {
        name: catalogue.family(name, source["controls"], source["defaults"])
        for name, source in found.items()
    }
    return {name: described[name] for name in catalogue.in_order(described)}


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph, or an item of a list with the ``indent`` of its further lines."""
    return textwrap.fill(
        text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def items(pairs: Iterable[tuple[str, str]]) -> str:
    """Those of the pairs that have a text, as a list."""
    return "\n".join(wrapped(f"- {name}: {text}", "  ") for name, text in pairs if text)


def code(value: Any) -> str:
    """A value as one would write it in YAML."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def plain(values: Any) -> str:
    """The bound of a floor: one value, or several with commas between them."""
    return ", ".join(f"`{value}`" for value in (values if isinstance(values, list) else [values]))


def floor(control: catalogue.Control) -> str:
    """The weakest settings that the control accepts, in words."""
    return "; ".join(
        f"`{setting}` {FLOORS[kind].format(plain(bound))}"
        for setting, rule in control.floor.items()
        for kind, bound in rule.items()
    )


def control_section(control: catalogue.Control) -> str:
    """What a reader wants to know about one control."""
    facts = items(
        [
            ("Severity", control.severity),
            ("Remedy", REMEDIES[control.remedy].format(family=control.family)),
            ("Floor", floor(control)),
            ("Guarded", "yes" if control.guarded else ""),
            ("Waivable", "" if control.waivable else "no, it guards against a lock-out"),
            ("References", "; ".join(control.references)),
        ]
    )
    return f"### {control.id}: {control.title}\n\n{wrapped(control.rationale)}\n\n{facts}"


def controls_page(described: Mapping[str, catalogue.FamilyCatalogue]) -> Iterator[str]:
    """The paragraphs of docs/controls.md."""
    yield WRITTEN_BY
    yield CONTROLS_INTRO
    for family in described.values():
        yield f"## {family.title} (`{family.name}`)"
        yield from map(control_section, family.controls.values())


def type_in_words(spec: schema.Spec) -> str:
    """``list of integers (at least 1, at most 9)``, ``mapping with `to` (string, required)``."""
    if "fields" in spec:
        return f"{spec['type']} with {', '.join(starmap(field_in_words, spec['fields'].items()))}"
    inner = spec.get("items") or spec.get("values")
    if not inner:
        return str(spec["type"])
    one, _, more = type_in_words(inner).partition(" ")
    return f"{spec['type']} of {one}s{' ' if more else ''}{more}{bracketed(inner)}"


def field_in_words(name: str, spec: schema.Spec) -> str:
    """A key of a mapping with what its value has to be."""
    facts = (type_in_words(spec), limits(spec), "required" if spec.get("required") else "")
    return f"`{name}` ({', '.join(filter(None, facts))})"


def bracketed(spec: schema.Spec) -> str:
    """The limits of a list's elements."""
    text = limits(spec)
    return f" ({text})" if text else ""


def limits(spec: schema.Spec) -> str:
    """What a value has to keep to beside its type."""
    one, several = UNITS.get(spec["type"], ("", ""))
    found = [
        f"at {word} {spec[key]}{one if spec[key] == 1 else several}"
        for key, word in (("min", "least"), ("max", "most"))
        if key in spec
    ]
    if "choices" in spec:
        found.append(f"one of {plain(list(spec['choices']))}")
    if "pattern" in spec:
        found.append(f"matches `{spec['pattern']}`")
    if "format" in spec:
        found.append(schema.FORMATS[spec["format"]][1])
    return ", ".join(found)


def setting_section(path: str, spec: schema.Spec) -> str:
    """What a reader wants to know about one setting."""
    facts = items(
        [
            ("Type", type_in_words(spec)),
            ("Default", code(spec["default"])),
            ("Limits", limits(spec)),
            ("Secret", "yes: only in the pillar of its own minion" if spec.get("secret") else ""),
            ("Formerly", plain(list(spec.get("formerly", ())))),
        ]
    )
    return f"### `{path}`\n\n{wrapped(' '.join(spec['help'].split()))}\n\n{facts}"


def settings_page(described: Mapping[str, catalogue.FamilyCatalogue]) -> Iterator[str]:
    """The paragraphs of docs/settings.md."""
    yield WRITTEN_BY
    yield SETTINGS_INTRO
    for family in described.values():
        yield f"## {family.title} (`{family.name}`)"
        for name, spec in family.schema.items():
            yield setting_section(f"hardening:{family.name}:{name}", spec)


def main(arguments: list[str] | None = None) -> int:
    """Writes the pages, or says which of them are stale."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when stale")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where the pages are")
    parser.add_argument(
        "--bundle", type=Path, default=SALT / catalogue.BUNDLE, help="where the bundle is"
    )
    options = parser.parse_args(arguments)
    found = sources()
    described = families(found)
    pages = {
        options.folder / "controls.md": "\n\n".join(controls_page(described)) + "\n",
        options.folder / "settings.md": "\n\n".join(settings_page(described)) + "\n",
        options.bundle: json.dumps(found, separators=(",", ":")) + "\n",
    }
    stale = []
    for page, text in pages.items():
        if page.is_file() and page.read_text() == text:
            continue
        stale.append(page.name)
        if not options.check:
            page.write_text(text)
    if options.check and stale:
        print(f"stale, the YAML files say something else: {', '.join(stale)}. Run `make docs`.")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
