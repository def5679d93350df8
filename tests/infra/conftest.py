"""Fixtures of the suite, which ``pytest tests/infra --hosts=ssh://web1`` runs: docs/infra.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import testinfra.backend
from testinfra.host import Host

from rocksalt.settings import Family

from .asking import Answer, Unreachable, ask
from .pillars import Expected, NoPillar, expected

T = TypeVar("T")
NO_HOSTS = (
    "tests/infra looks at hosts and none is named: pytest tests/infra --hosts=ssh://web1 "
    "(or salt://web1, docker://name, local://; see docs/infra.md)"
)
WEAK = pytest.StashKey[str]()
KNOWN = pytest.StashKey[dict[Any, Any]]()
testinfra.backend.BACKENDS["lab"] = "rocksalt_lab.backend.OfAnotherProcess"


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "YAML file with the pillar of the hosts (default: each host is asked for its own)"
    parser.addoption("--pillar", metavar="FILE", help=help)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "controls(*ids): the controls that a test judges")
    config.stash[KNOWN] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if "_testinfra_host" in getattr(item, "fixturenames", ())]
    if ours and not config.getoption("hosts") and not config.option.collectonly:
        if len(ours) == len(items):
            raise pytest.UsageError(NO_HOSTS)
        items[:] = [item for item in items if item not in ours]
        config.hook.pytest_deselected(items=ours)


def once(request: pytest.FixtureRequest, key: Any, make: Callable[[], T]) -> T:
    """What was made for the key before, or is made now. A host that does not answer, or has no
    pillar, is one error; then its other tests have nothing to judge.
    """
    known = request.config.stash[KNOWN]
    first = key not in known
    if first:
        try:
            known[key] = make()
        except (Unreachable, NoPillar) as error:
            known[key] = error
    found = known[key]
    if isinstance(found, Exception) and first:
        pytest.fail(str(found), pytrace=False)
    if isinstance(found, Exception):
        pytest.skip(f"not judged: {found}")
    return found  # type: ignore[no-any-return]


@pytest.fixture
def wanted(request: pytest.FixtureRequest, host: Host) -> Expected:
    """What is expected of the host as a whole."""
    file = request.config.getoption("pillar")
    return once(request, host.backend, lambda: expected(host, file))


@pytest.fixture
def family(request: pytest.FixtureRequest, wanted: Expected) -> Family:
    """The family that the file is about, with its settings."""
    found = wanted.baseline.families[request.module.FAMILY]
    if not found.settings["enabled"]:
        pytest.skip(f"switched off by {found.where('enabled')}")
    return found


@pytest.fixture
def settings(family: Family) -> dict[str, Any]:
    """The settings of the family."""
    return dict(family.settings)


@pytest.fixture
def seen(
    request: pytest.FixtureRequest, host: Host, wanted: Expected, family: Family
) -> dict[str, Answer]:
    """What the host answered to the questions of the file; skipped where it is not about it."""
    module = request.module
    if reason := getattr(module, "beside_the_point", lambda wanted: "")(wanted):
        pytest.skip(reason)
    look = module.look(wanted)
    answers = once(request, (host.backend, module.__name__), lambda: ask(host, look))
    if reason := getattr(module, "not_here", lambda answers: "")(answers):
        pytest.skip(reason)
    return answers


@pytest.fixture
def excused(wanted: Expected, family: Family) -> dict[str, tuple[str, str]]:
    """The controls that are waived or off, with (status, reason)."""
    return wanted.baseline.excused(family, dt.datetime.now(dt.timezone.utc).date())


@pytest.fixture(autouse=True)
def judged(request: pytest.FixtureRequest) -> set[str]:
    """The ids of those controls of a test that are neither waived nor off."""
    marker = request.node.get_closest_marker("controls")
    if marker is None:
        return set()
    family: Family = request.getfixturevalue("family")
    excused = request.getfixturevalue("excused")
    left = [i for i in marker.args if i not in excused]
    if not left:
        pytest.skip("; ".join(f"{i} is {excused[i][1]}" for i in marker.args))
    weak = filter(None, (family.below_floor(family.controls[i]) for i in left))
    request.node.stash[WEAK] = "; ".join(weak)
    return set(left)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """A host that is as a pillar below the floor has it is not as the baseline wants it."""
    if weak := pyfuncitem.stash.get(WEAK, ""):
        pytest.fail(weak, pytrace=False)
