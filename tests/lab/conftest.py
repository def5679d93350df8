"""Fixtures: one set of lab hosts per test session, used by all tests and removed at the end."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("outside", "runs")  # a failed assertion there shows its values, too

import runs  # noqa: E402
from rocksalt_lab import Host, Lab, Machine, vagrant_image, vm  # noqa: E402
from rocksalt_lab.image import RELEASES, SALT_LINES, ensure  # noqa: E402
from rocksalt_lab.system import MACHINE_TOOLS, ensure_tools  # noqa: E402

DISKS = {
    "fresh": "96M",
    "spare": "96M",
    "luks1": "64M",
    "weak": "64M",
    "good": "64M",
    "lvm": "128M",
    "plain": "32M",
    "swap": "64M",
    "dirty": "64M",
}
SLOW = 1800  # seconds for one test in an emulated machine, its boot included


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lab-release", default="debian-12", choices=list(RELEASES))
    parser.addoption("--lab-salt", default="3008", choices=list(SALT_LINES))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("vm"):
            item.add_marker(pytest.mark.timeout(SLOW))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the images before the first test starts: their minutes are no test's time."""
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "lab" in needed and not session.config.option.collectonly:
        option = session.config.getoption
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            ensure_tools()
            ensure(option("--lab-release"), option("--lab-salt"))
            if "desk" in needed:
                vagrant_image.ensure()
            if "machine" in needed:
                ensure_tools(tools=MACHINE_TOOLS)
                vm.ensure_image(option("--lab-release"), option("--lab-salt"))


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab run without hosts; everything in it goes when the session ends, however it ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    option = request.config.getoption
    with Lab.start(release=option("--lab-release"), salt=option("--lab-salt")) as lab:
        yield lab


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> dict[str, Host]:
    """A Salt master (the management host too) and two minions, all answering."""
    return lab.salt_cluster()


@pytest.fixture(scope="session")
def master(cluster: dict[str, Host]) -> Host:
    return cluster["master"]


@pytest.fixture(scope="session")
def web1(cluster: dict[str, Host]) -> Host:
    return cluster["web1"]


@pytest.fixture(scope="session")
def web2(cluster: dict[str, Host]) -> Host:
    return cluster["web2"]


@pytest.fixture(scope="session")
def machine(lab: Lab) -> Machine:
    """A virtual machine with empty disks; leave them zero again, or as other tests expect them."""
    return lab.machine("vm1", "10.79.0.21", DISKS)


@pytest.fixture(scope="session")
def vm_minion(lab: Lab, master: Host, machine: Machine) -> Machine:
    """The same machine, from now on a minion of the lab's master."""
    lab.salt_minion(master, machine)
    return machine


@pytest.fixture
def pillar(master: Host) -> Iterator[Host]:
    """The master, whose pillar is put back as it was."""
    before = master.read(runs.PILLAR)
    yield master
    master.write(runs.PILLAR, before)


@pytest.fixture(scope="session")
def attacker(lab: Lab) -> Host:
    """A host that nobody trusts: no minion, no key, in none of the named networks."""
    return lab.host("attacker", "10.79.0.66")
