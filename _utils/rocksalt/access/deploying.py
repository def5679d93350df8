"""A deploy: an app's states are applied, alone, within a time, and with a record of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import salt.payload
import salt.utils.jid

from rocksalt.access import deploys
from rocksalt.access.deployed import FAILED, OK, RUNNING, Records
from rocksalt.access.deploys import App, Outcome
from rocksalt.errors import Refused

_AGAIN = 5
"""Seconds after which what would not end is killed."""


class TookTooLong(BaseException):
    """The time of a deploy is up. No ``Exception``, for Salt makes those the result of one state
    and goes on with the next.
    """


class Deploy:
    """One version of an app to deploy, with the functions and options of the minion."""

    def __init__(
        self,
        app: App,
        version: str,
        salt: Mapping[str, Callable[..., Any]],
        opts: Mapping[str, Any],
        mask: Callable[[str], str],
    ):
        self.app = app
        self.version = version
        self.salt = salt
        self.opts = opts
        self.mask = mask

    def rehearse(self, records: Records) -> dict[str, Any]:
        """What it would change; leaves no trace."""
        self._refuse_others()
        began = time.monotonic()
        outcome = self._apply(test=True)
        return {**self._told(outcome, began, records.previous(self.app.name)), "test": True}

    def run(self, records: Records) -> dict[str, Any]:
        """Does it. :class:`Refused` where nothing was done."""
        began = time.monotonic()
        name = self.app.name
        about = {"app": name, "version": self.version, "started": _now(), **job(self.opts)}
        done: dict[str, Any] = {}
        try:
            with records.alone(about), seen_by_salt(self.opts):
                self._refuse_others()
                previous = records.previous(name)
                record = {**about, "schema": 1, "status": RUNNING, "previous": previous}
                with records.kept(name):
                    records.write(record)
                    told = self._told(self._apply(test=False), began, previous)
                done = {**told, "jid": about["jid"], **self._finish(records, record, told)}
        except OSError as error:
            if not done:
                raise Refused(f"no record can be kept: {error}; nothing was done") from None
            done.setdefault("warning", f"what is left of the deploy could not be removed: {error}")
        return done

    def _finish(
        self, records: Records, record: dict[str, Any], told: dict[str, Any]
    ) -> dict[str, str]:
        """Writes what came of it; a warning where that cannot be written, for it has happened."""
        over = {key: told[key] for key in ("seconds", "states", "changed", "failed")}
        status = OK if told["result"] else FAILED
        try:
            records.write({**record, **over, "status": status, "ended": _now()})
        except OSError as error:
            return {"warning": f"{records.path(self.app.name)} could not be written: {error}"}
        return {}

    def _refuse_others(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise Refused(_THREADS)
        active = self.salt["state.running"]()
        if active:
            raise Refused(_other(active))

    def _apply(self, test: bool) -> Outcome:
        try:
            with at_most(self.app.timeout):
                returned = self.salt["state.apply"](
                    ",".join(self.app.states),
                    pillar={"deploy": {"app": self.app.name, "version": self.version}},
                    test=test,
                    queue=False,
                )
        except TookTooLong:
            why = f"it took more than {self.app.timeout} s and was ended"
            return deploys.failed(self.app, why, self.mask)
        except Exception as error:
            return deploys.failed(self.app, error, self.mask)
        if deploys.conflict(returned):
            raise Refused(_other(returned))
        return deploys.outcome(self.app, returned, test, self.mask)

    def _told(self, outcome: Outcome, began: float, previous: str | None) -> dict[str, Any]:
        return {
            "app": self.app.name,
            "version": self.version,
            "previous": previous,
            "result": outcome.result,
            "seconds": round(time.monotonic() - began, 1),
            **outcome.told(),
        }


_THREADS = (
    "this minion runs jobs in threads (multiprocessing: False), where no deploy can be ended when "
    "its time is up: nothing was done"
)


def _other(active: list[Any]) -> str:
    return f"another state run is active: {'; '.join(map(str, active))}. Nothing was done"


def _now() -> str:
    return f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def job(opts: Mapping[str, Any]) -> dict[str, str]:
    """Id of the job that this process works on, and the user for whom the master published it, from
    Salt's file about it; both empty where there is none. A ``salt-call`` has no user.
    """
    for path in _jobs(opts).glob("*"):
        try:
            found = salt.payload.loads(path.read_bytes() or b"\xc0")
        except Exception:  # files of others come, go and are half written
            continue
        if isinstance(found, dict) and found.get("pid") == os.getpid():
            return {key: str(found.get(key) or "") for key in ("jid", "user")}
    return {"jid": "", "user": ""}


def _jobs(opts: Mapping[str, Any]) -> Path:
    return Path(opts["cachedir"]) / "proc"


@contextlib.contextmanager
def seen_by_salt(opts: Mapping[str, Any]) -> Iterator[None]:
    """Salt refuses or queues other runs of states meanwhile, as it does for one of its own: it goes
    by the function of a job, which is not one of ``state`` here.
    """
    jid = salt.utils.jid.gen_jid(opts)
    data = {"fun": "state.apply", "jid": jid, "pid": os.getpid(), "tgt": "deploy.run"}
    path = _jobs(opts) / jid
    path.parent.mkdir(parents=True, exist_ok=True)
    # Salt removes a file of a job that is empty, as one that is being written is.
    new = path.parent.with_name(f"{jid}.new")
    new.write_bytes(salt.payload.dumps(data))
    os.replace(new, path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """:class:`TookTooLong` after this time, when the programs that were started since are ended,
    too.
    """
    before = descendants(os.getpid())
    rounds = iter([signal.SIGTERM])
    over = False
    timer = (0.0, 0.0)

    def end(number: int, frame: FrameType | None) -> None:
        if over:
            return
        how = next(rounds, signal.SIGKILL)
        for pid in descendants(os.getpid()) - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        raise TookTooLong

    former = signal.signal(signal.SIGALRM, end)
    try:
        try:
            timer = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
            yield
        finally:
            # An alarm until here ends in what follows, and a later one comes to nothing.
            over = True
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of a program is in parentheses, and may have any character.
            parent = int(path.read_text(errors="replace").rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        new = set(children.get(todo.pop(), ())) - found
        found |= new
        todo += new
    return found
