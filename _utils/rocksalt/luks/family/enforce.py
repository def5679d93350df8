"""Makes a host what the checks expect. Nothing here encrypts, decrypts or takes away what is on a
disk: a volume is made where a disk is empty, and a key comes from its customer or key service.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks.config import Volume
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.family import boot, checks, receiving
from rocksalt.luks.family.checks import Luks
from rocksalt.luks.family.setup import problems
from rocksalt.luks.handover import service, units
from rocksalt.luks.volumes import creating, mounting, opening, settling, states
from rocksalt.transaction import ASIDE, each, systemctl


def enforce(it: Luks, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``; raises :class:`Refused` with all that failed."""
    if wrong := problems(it.setup.baseline, it.host):
        raise Refused("; ".join(wrong))
    each(partial(step, it) for i, step in _STEPS.items() if i in ids)


def _receiving(it: Luks) -> None:
    """Program, configuration, account and units, and that they run."""
    setup, host = it.setup, it.host
    for path, rights in setup.folders().items():
        host.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        _give(host, path, rights)
    for path, (text, rights) in setup.files().items():
        if host.read(path) != text:
            host.write(path, text, "0600")
        _give(host, path, rights)
    if setup.account:
        setup.account.make(host)
    changed = [path for path, text in setup.units().items() if host.read(path) != text]
    for path in changed:
        host.write(path, setup.units()[path])
    for path in receiving.left_over(setup, host):
        _take_away(host, path)
    if not setup.volumes:
        systemctl(host, "daemon-reload")
        return
    _start(it, {os.path.basename(path) for path in changed})


def _start(it: Luks, changed: set[str]) -> None:
    """Sockets listen from now on; what opens volumes at boot is only to start then."""
    systemctl(it.host, "daemon-reload")
    for path in receiving.overrides(it.setup, it.host):
        if f"/{units.PREFIX}" in path or f"/{units.OPENER}" in path:
            it.host.rename(path, path + ASIDE)
            changed.add(os.path.basename(os.path.dirname(path)).removesuffix(".d"))
    systemctl(it.host, "daemon-reload")
    for name in it.setup.started():
        systemctl(it.host, "enable", "--quiet", name)
    for name in units.sockets(it.setup.customers):
        systemctl(it.host, "restart" if name in changed else "start", name)


def _key_files(it: Luks) -> None:
    wrong = (path for path, readers in it.boot.readers().items() if readers != boot.ALONE)
    each(partial(_key_file, it, path) for path in wrong)


def _key_file(it: Luks, path: str) -> None:
    """It may be a link to something else by the time it is changed, unless root alone decides."""
    if loose := it.boot.loose(path):
        raise Refused(f"{path} lies{loose}: move it to a folder of root's, such as /etc/keys")
    it.host.secure(path, "root", "root", "0400")


def _of_each(step: Callable[[Luks, Volume], object], it: Luks) -> None:
    """Takes a step for every volume, also after one that failed."""
    each(partial(step, it, volume) for volume in it.setup.volumes.values())


def _make(it: Luks, volume: Volume) -> None:
    look = it.customers.looks[volume.name]
    if isinstance(look, str):
        raise Refused(f"the volume {volume.name} cannot be looked at: {look}")
    if not look.made:
        creating.create(it.machine, volume, it.now, Strength.of(it.setup.settings))


def _settle(it: Luks, volume: Volume) -> None:
    settling.settle(it.machine, volume)


def _open(it: Luks, volume: Volume) -> None:
    if volume.key_command:
        service.open_volume(it.machine, volume)


def _mount(it: Luks, volume: Volume) -> None:
    """An open volume is mounted; where a closed one belongs, root alone can write."""
    condition = states.state(it.machine, volume).condition
    if condition == states.OPEN:
        opening.mount_volume(it.machine, volume)
    elif condition == states.CLOSED:
        mounting.prepare(it.machine, volume)


def _copies(it: Luks) -> None:
    missing = (found.owned for found in it.copying.missing() if not found.careful)
    each(partial(it.copying.make, owned) for owned in missing)


_STEPS: dict[str, Callable[[Luks], None]] = {
    checks.RECEIVING: _receiving,
    checks.KEY_FILES: _key_files,
    checks.MADE: partial(_of_each, _make),
    checks.SETTLED: partial(_of_each, _settle),
    checks.OPENED: partial(_of_each, _open),
    checks.MOUNTED: partial(_of_each, _mount),
    checks.COPIES: _copies,
}
"""In this order: a volume is there before it is opened, and its header is copied at last."""


def _give(host: Host, path: str, rights: str) -> None:
    owner, group, mode = rights.replace(":", " ").split()
    host.secure(path, owner, group, mode)


def _take_away(host: Host, path: str) -> None:
    """A request that is under way comes to its end."""
    if path.endswith(".socket") or path.endswith(units.OPENER):
        host.run("systemctl", "disable", "--now", "--quiet", os.path.basename(path))
    host.remove(path)


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host and ``clean`` takes away. Volumes, journals, copies of
    headers and the account stay: without them customers could lose what is theirs.
    """
    return receiving.installed(host)


def clean(host: Host) -> None:
    """Takes it away; volumes that are open stay open."""
    for path in leftovers(host):
        _take_away(host, path)
    systemctl(host, "daemon-reload")
