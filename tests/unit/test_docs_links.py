"""The README leads everywhere, links lead somewhere, and the first pillar there is right."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from documents import FENCED, GENERATED, PAGES, REPO

from rocksalt import settings

ALL = [*PAGES, *(REPO / "docs" / name for name in GENERATED), REPO / "CHANGELOG.md"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAILLSU+svfvtVleVVviymVZnxscO18BM7Yct5w88/ZAKf"


def links(text: str) -> list[str]:
    """Where a page leads; what looks so in code does not count."""
    return LINK.findall(re.sub(r"`[^`]+`", "", FENCED.sub("", text)))


def anchors(text: str) -> set[str]:
    """What its headings are called in addresses."""
    found: Counter[str] = Counter()
    names = set()
    for title in re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def broken(page: Path, text: str) -> list[str]:
    """Links that lead nowhere."""
    wrong = []
    for link in links(text):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not link.startswith("https://") and not (
            path.exists() and (not anchor or anchor in anchors(path.read_text()))
        ):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert broken(page, page.read_text()) == []


def test_broken_links_are_found():
    text = (
        "[a](docs/install.md#upgrade) [b](docs/instal.md) [c](docs/install.md#up\n"
        "grade) [d](docs/install.md#upgrades) `[e](f)` [g](#licence) [h](https://example.org)\n"
    )
    found = broken(REPO / "CONTRIBUTING.md", text)
    assert found == ["docs/instal.md", "docs/install.md#upgrades"]


def test_the_readme_leads_to_every_page():
    listed = links((REPO / "README.md").read_text().partition("## Where to read on")[2])
    pages = {str(it.relative_to(REPO)) for it in (REPO / "docs").iterdir()}
    assert pages | {"SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {*listed}


def test_the_first_pillar_is_right(shipped):
    text = (REPO / "README.md").read_text()
    found = re.search(r"```yaml\n(hardening:.*?)```", text, re.DOTALL)
    assert found
    pillar = yaml.safe_load(found[1].replace("AAAA...", KEY))["hardening"]
    baseline = settings.resolve(shipped, pillar, {}, "web1", now=dt.datetime.now(dt.timezone.utc))
    assert not baseline.warnings
    assert list(baseline.families["accounts"].settings["administrators"]) == ["ann"]
    switched = {**pillar, "nrpe": {"controls": {"NRPE-001": {"off": "we use another"}}}}
    assert '`hardening:nrpe:controls:NRPE-001: {"off": "we use another"}`' in text
    settings.resolve(shipped, switched, {}, "web1", now=dt.datetime.now(dt.timezone.utc))
    for control in re.findall(r"`([A-Z]+-\d+)`", text):
        assert any(control in family.controls for family in shipped.values()), control
