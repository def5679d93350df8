"""Makes NRPE what the checks expect, as one transaction: a second NRPE is tried out on the new
files first, then the real one starts anew and is knocked at, or everything is as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rocksalt import nrpe, permissions
from rocksalt.backup import program
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.nrpe import checks, config, controls, facts, files, reading, setup, shipped, starting
from rocksalt.pki import authority, certificates, held
from rocksalt.transaction import ASIDE, Transaction, systemctl

_OURS = ("/etc/nagios/", "/etc/systemd/", "/run/systemd/")
_PLACES = (
    *("/etc/nagios/*", "/etc/nagios/nrpe.d/*", "/etc/nagios/nrpe.d/*/*"),
    *(f"/{place}/systemd/system*/{nrpe.UNIT}" for place in ("etc", "run")),
    *(f"/{place}/systemd/system*/{nrpe.UNIT}.d/*" for place in ("etc", "run")),
)
"""Where files of others may have been put aside."""


def enforce(host: Host, it: checks.Nrpe, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``. Raises :class:`Refused`; then either nothing was changed, or
    everything was put back.
    """
    if not it.setup.monitors:
        return
    try:
        refuse(it)
    except Refused as refused:
        if starting.exposed(host):
            starting.stop(host)
            raise Refused(f"{refused}; {starting.STOPPED}") from None
        raise
    _plugins(host, it)
    if not {*ids} - {controls.OURS}:
        return
    change = Transaction(host)
    folders(host)
    with authority.lock(host, nrpe.FOLDER), undone(host, change):
        _aside(host, it, change)
        _write(host, it, change)
        secure(host)
        _take_effect(host, it)


def refuse(it: checks.Nrpe) -> None:
    """What stands in the way, before anything is touched."""
    found = [it.problem()] if it.problem() else []
    if controls.GENUINE in it.wanted:
        found += setup.outdated(it.setup, it.now, it.host)
        try:
            _key_of_given(it)
        except Refused as refused:
            found.append(str(refused))
    if it.host.attributes(nrpe.PROGRAM) is None:
        found.append("nagios-nrpe-server is not installed")
    if controls.OTHERS in it.wanted:
        found += [
            f"{nrpe.TOP}:commands: the plugin {path} does not exist; {_how_to_get(path)}"
            for path in files.missing_plugins(it)
        ]
    if found:
        raise Refused("; ".join(found))


def _how_to_get(path: str) -> str:
    if path == program.PLUGIN:
        return "hardening.backup brings it to hosts that have a role in the backup"
    return "install what brings it"


@contextlib.contextmanager
def undone(host: Host, change: Transaction) -> Iterator[None]:
    """A change that fails is taken back, and NRPE runs on as it did before; one that would answer
    strangers does not.
    """
    before, open_before = reading.show(host), starting.exposed(host)
    try:
        yield
    except (Refused, OSError, LookupError) as error:
        failures = change.undo()
        with contextlib.suppress(LookupError):
            secure(host)
        host.run("systemctl", "daemon-reload")
        again = "restart" if before.get("ActiveState") == "active" else "stop"
        ran = host.run("systemctl", *(starting.OFF if open_before else (again,)), nrpe.UNIT)
        if before.get("UnitFileState") == "disabled":
            host.run("systemctl", "disable", "--quiet", nrpe.UNIT)
        failures += [" ".join((ran.err or ran.out).split())] if ran.status else []
        outcome = "the old configuration is back"
        outcome += f", but {starting.STOPPED}" if open_before else ""
        if failures:
            outcome = f"and going back failed, too: {'; '.join(failures)}"
        raise Refused(f"{error}; {outcome}") from None


def _plugins(host: Host, it: checks.Nrpe) -> None:
    """Ours. Nothing depends on the old ones, so they are not part of what is undone."""
    for path, text in it.own_plugins.items() if controls.OURS in it.wanted else ():
        if host.read(path) != text:
            host.write(path, text, "0755")
        if host.access(path) != facts.PROGRAM_FILE:
            host.give(path, facts.PROGRAM_FILE)


def _aside(host: Host, it: checks.Nrpe, change: Transaction) -> None:
    """What others configured has no effect any more, and is kept. A file of a package that another
    path leads to stays.
    """
    if controls.ALONE not in it.wanted:
        return
    for path in (*it.reading.foreign, *it.reading.drop_ins):
        if path.startswith(_OURS) and host.attributes(path, follow=False):
            change.rename(path, path + ASIDE)


def keep_address(it: checks.Nrpe, change: Transaction) -> None:
    """What was found as the address to listen on stays so; what is named is not kept."""
    if it.setup.settings["address"]:
        change.remove(nrpe.KEPT)
    elif it.host.read(nrpe.KEPT) is None:
        folders(it.host)
        change.write(nrpe.KEPT, f"{it.address}\n", "0644")


def _write(host: Host, it: checks.Nrpe, change: Transaction) -> None:
    """Our files. The configuration of the distribution is kept beside ours."""
    if controls.GENUINE in it.wanted and (key := _key_of_given(it)):
        change.write(nrpe.KEY, key, "0600")
        change.remove(nrpe.NEXT_KEY)
    if controls.CONFIG in it.wanted:
        keep_address(it, change)
    for path, text in it.setup.given.items() if controls.GENUINE in it.wanted else ():
        if host.read(path) != text or host.path(path).is_symlink():
            folders(host)
            change.write(path, text, "0600")
    for path, text in it.render().items():
        control = controls.CONFIG if path == nrpe.CONFIG else controls.SANDBOX
        as_it_should = host.read(path) == text and not host.path(path).is_symlink()
        if control not in it.wanted or as_it_should:
            continue
        found = host.read(path)
        kept = host.attributes(path + ASIDE) is not None
        if path == nrpe.CONFIG and found and not kept and not found.startswith(config.HEADER):
            change.write(path + ASIDE, found, mode_of(host, path))
        change.write(path, text, "0640" if path == nrpe.CONFIG else "0644")


def _key_of_given(it: checks.Nrpe) -> str | None:
    """The key that was made here, for a certificate that the pillar gives without one."""
    text = it.setup.given.get(nrpe.CERTIFICATE)
    if not text or it.setup.settings["private_key"] or it.host.read(nrpe.CERTIFICATE) == text:
        return None
    where = it.setup.family.where("certificate")
    try:
        return held.key_of(it.host, reading.PLACE, certificates.load(text, where)[0])
    except Refused as refused:
        raise Refused(
            f"{where}: {refused} (nrpe.request), or give {nrpe.TOP}:private_key"
        ) from None


def folders(host: Host) -> None:
    """Where certificates and the key are; NRPE gets in whatever the umask is."""
    for path, mode in ((nrpe.ABOVE, 0o755), (nrpe.FOLDER, 0o750)):
        target = host.path(path)
        if not target.exists():
            target.mkdir(parents=True)
            target.chmod(mode)


def mode_of(host: Host, path: str) -> str:
    """The mode of a file that exists."""
    found = host.attributes(path)
    return found.mode if found else "0640"


def secure(host: Host) -> None:
    """Owners and modes."""
    wanted = {**facts.ACCESS, nrpe.CONFIG: facts.CONFIG_FILE, nrpe.NEXT_KEY: "root:root 0600"}
    permissions.secure(host, wanted)


def _take_effect(host: Host, it: checks.Nrpe) -> None:
    """NRPE starts on what is there now; without a certificate it does not run at all, for the
    distribution's configuration would do without.
    """
    systemctl(host, "daemon-reload")
    if not held.read(host, reading.PLACE).complete:
        starting.stop(host)
        return
    starting.start(host, it)


# Taking it away -----------------------------------------------------------------------------------


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host and ``clean`` takes away. Key and certificates stay."""
    text = host.read(nrpe.CONFIG) or ""
    found = [nrpe.CONFIG] if text.startswith(config.HEADER) else []
    own = [nrpe.DROP_IN, nrpe.KEPT, *(f"{nrpe.PLUGINS}/{name}" for name in shipped.NAMES)]
    return found + [path for path in own if host.attributes(path, follow=False) is not None]


def clean(host: Host) -> None:
    """Takes it away, and gives back what was put aside."""
    active = reading.show(host).get("ActiveState") == "active"
    for path in leftovers(host):
        host.remove(path)
    for place in _PLACES:
        for path in host.glob(place + ASIDE):
            host.rename(path, path.removesuffix(ASIDE))
    host.run("systemctl", "daemon-reload")
    if active:
        masked = reading.show(host).get("UnitFileState") in ("masked", "masked-runtime")
        restartable = host.read(nrpe.CONFIG) is not None and not masked
        systemctl(host, "restart" if restartable else "stop", nrpe.UNIT)
