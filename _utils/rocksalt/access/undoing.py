"""What becomes of a part that fails: its files are as they were, and so is what runs. The master is
never stopped, for nobody reaches the host without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping

from rocksalt.access import answered, starting
from rocksalt.access.facts import API, Facts
from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.transaction import Transaction

OLD = "the old configuration is back"
_ANSWERED = "the configuration that the master answered with last is back"
_OLD_API = "what is salt-api's alone is as it was"
Outcome = tuple[str, list[str]]
"""What came of going back, in words, and what failed meanwhile."""


@contextlib.contextmanager
def undone(
    change: Transaction, go_back: Callable[[], Outcome] = lambda: (OLD, [])
) -> Iterator[None]:
    """A change that fails, however, is taken back, also one that somebody interrupts; then services
    go back, too.
    """
    try:
        yield
    except BaseException as error:
        failures = change.undo()
        outcome, more = go_back()
        if not isinstance(error, Exception):
            raise
        if failures := [*failures, *more]:
            outcome = f"and going back failed, too: {'; '.join(failures)}"
        ours = isinstance(error, (RocksaltError, OSError, LookupError))
        what = error if ours else f"{type(error).__name__}: {error}"
        raise Refused(f"{what}; {outcome}") from (None if ours else error)


def master(host: Host, it: Facts, restarted: Collection[str]) -> Outcome:
    """Has the master answer, where it was restarted: with the old files, or with the configuration
    that it answered with last, if the old ones are what a killed run left.
    """
    if not restarted:
        return OLD, []
    if not (why := _answers(host, it)):
        return OLD, []
    last, found = answered.text(host), host.read(it.config_path)
    if last is None or last == found:
        return OLD, [why]
    before = host.access(it.config_path)
    try:
        _replace(host, it, last, it.readable)
        if not _answers(host, it):
            return _ANSWERED, []
        _replace(host, it, found, before or it.readable)
    except (OSError, LookupError) as error:
        return OLD, [why, str(error)]
    return OLD, [why]


def _replace(host: Host, it: Facts, text: str | None, rights: str) -> None:
    if text is None:
        host.remove(it.config_path)
    else:
        owner, mode = rights.split()
        host.write(it.config_path, text, mode, owner)


def _answers(host: Host, it: Facts) -> str:
    """Starts the master anew; why it does not answer, empty where it does."""
    try:
        starting.master(host, it)
    except (RocksaltError, OSError, LookupError) as error:
        return str(error)
    return ""


def api(host: Host, before: Mapping[str, str], restarted: Collection[str]) -> Outcome:
    """Has salt-api run as it did ``before``, where it was restarted. What nobody knows stays."""
    state = before.get("ActiveState")
    if not restarted:
        return _OLD_API, []
    failed = []
    if before.get("UnitFileState") == "disabled":
        failed += _systemctl(host, "disable", "--quiet")
    if state in ("active", "activating", "reloading"):
        try:
            starting.restart(host, API)
        except Refused as refused:
            failed.append(str(refused))
    elif state:
        # Also where it had failed or was about to stop: the new one has not proved itself.
        failed += _systemctl(host, "stop")
    return _OLD_API, failed


def _systemctl(host: Host, *command: str) -> list[str]:
    """Why something about salt-api could not be done, if so."""
    ran = host.run("systemctl", *command, API, timeout=starting.PATIENCE)
    why = " ".join((ran.err or ran.out).split())
    return [f"systemctl {' '.join(command)} {API}: {why}"] if ran.status else []
