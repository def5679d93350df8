"""What the door asks of Salt: log in, log out, call. Everything it knows about Salt is here.

Calls of runners go straight to the master. Salt's client would first load the runner in this
process to look at its arguments, and with it a library that is replaced under its feet.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import salt.auth
import salt.client
import salt.client.mixins
import salt.exceptions
import salt.netapi
import salt.runner
import salt.utils.minions

from . import directory, names, passwords, sealing
from .choosing import MERGES, minions
from .collecting import Answers, Client
from .conf import Options
from .errors import Refused
from .grants import DATA, DEPLOY

log = logging.getLogger("rocksalt.api")
_TRACE = "Traceback (most recent call last):"
_FORBIDDEN = (
    salt.exceptions.AuthorizationError,
    salt.exceptions.EauthAuthenticationError,
    salt.exceptions.TokenAuthenticationError,
)
_PATIENCE = 10
"""Seconds that a log-in waits for others."""
_AWAY = (salt.exceptions.SaltDaemonNotRunning, salt.exceptions.SaltReqTimeoutError)
WAIT, DEPLOYS, MARGIN = 300, 600, 60
"""Seconds that a call on minions takes at most where it does not say: one that is no deploy, one
whose app does not say either, and what a deploy has beside the time of its app.
"""
_DEEPEST = 50
"""Levels of an answer."""


@dataclass(frozen=True)
class Done:
    """A call that the master took: what the caller is told, the job, and the outcome in a word."""

    value: Any
    jid: str
    outcome: str


class Salt:
    """The master, with the options that salt-api was started with."""

    def __init__(self, opts: Mapping[str, Any], options: Options):
        self._opts, self._eauth, self._users = dict(opts), options.eauth, options.users_file
        self._resolver = salt.auth.Resolver(self._opts)
        self._tokens = salt.auth.LoadAuth(self._opts)
        self._checker = salt.utils.minions.CkMinions(self._opts)
        # Each keeps one of the master's processes busy, and minions need these as well.
        self._entering = threading.Semaphore(max(1, self._opts.get("worker_threads", 5) // 2))
        self._senders: list[Client] = []

    def log_in(self, user: str, password: str) -> dict[str, Any] | None:
        """Salt's token (token, start, expire, name, eauth) with ``perms``; None where the master
        does not know them, and :class:`Refused` where they would have the rights of others.
        """
        self._running()
        # As it is in the file, for another salt-api that was started may have renewed it.
        sealed = sealing.seal(sealing.secret(self._opts), user, password)
        load = {"eauth": self._eauth, "username": user, "password": sealed}
        if not self._entering.acquire(timeout=_PATIENCE):
            raise Refused(503, "too many others log in now", wait=5)
        try:
            self._look_for_directory()
            found = self._resolver.mk_token(load)
        except _AWAY:
            raise _away() from None
        finally:
            self._entering.release()
        if not isinstance(found, dict) or not found.get("token"):
            return None
        rights = self._opts.get("external_auth", {}).get(self._eauth) or {}
        if names.taken_for(found["name"], rights):
            self.log_out(found["token"])
            raise Refused(403, "Salt takes your name for that of others as well; ask for another")
        groups = found.get("groups") or ()
        perms = self._checker.fill_auth_list(rights, found["name"], groups)
        return {**found, "perms": salt.netapi.sorted_permissions(perms)}

    def _look_for_directory(self) -> None:
        if self._eauth == "rocksalt_ldap" and (why := directory.trouble(self._opts)):
            log.error("nobody can log in: %a", why)
            raise Refused(503, "the directory that knows passwords does not answer", wait=10)

    def hash(self, user: str) -> str:
        """That of the user's password; empty where somebody else keeps passwords."""
        if self._eauth != "rocksalt_file":
            return ""
        return passwords.hash_of(Path(self._users).read_text(), user)

    def log_out(self, token: str) -> None:
        """The token ends."""
        self._tokens.rm_token(token)

    def call(self, call: Mapping[str, Any], token: str) -> Done:
        """Do one call that passed the filter; :class:`Refused` where the master does not."""
        self._running()
        try:
            if call["client"].startswith("local"):
                return self._on_minions(call, token)
            return self._on_master(call, token)
        except _FORBIDDEN:
            # Of runners the master says the same where it does not know the token.
            if not self._tokens.get_tok(token):
                raise _ended() from None
            raise Refused(403, "this is not among your rights") from None
        except salt.exceptions.AuthenticationError:
            raise _ended() from None
        except _AWAY:
            raise _away() from None
        except salt.exceptions.SaltClientTimeout as late:
            sentence = f"there was no answer in time; job {late.jid} may still be going on"
            raise Refused(504, sentence) from None
        except Exception as error:
            # Salt raises here whatever the master says that it was, also what Python has.
            log.error("%s: %a", call["fun"], error)
            raise Refused(502, "the master could not do this; its log says why") from None

    def _on_minions(self, call: Mapping[str, Any], token: str) -> Done:
        tgt, tgt_type = self._target(call)
        what = {
            "tgt": tgt, "fun": call["fun"], "arg": list(call.get("arg", ())),
            "tgt_type": tgt_type, "kwarg": call.get("kwarg") or None, "token": token,
        }  # fmt: skip
        if call["client"] == "local_async":
            with self._sender() as client:
                job = client.run_job(**what)
            jid = str(job.get("jid", "")) if isinstance(job, dict) else ""
            return Done(plain(job), jid, "sent" if jid else "no minion matched")
        with Client(self._opts) as client:
            answers = client.collect(self._patience(call), what)
        return _told(answers, call.get("full_return", False))

    @contextlib.contextmanager
    def _sender(self) -> Iterator[Client]:
        """A client that waits for nothing. To make one takes ten times as long as to send, so they
        are kept, also by those who may not send.
        """
        try:
            client = self._senders.pop()
        except IndexError:
            client = Client(self._opts)
        try:
            yield client
        finally:
            self._senders.append(client)

    def _patience(self, call: Mapping[str, Any]) -> int:
        """Seconds that a call on minions may take, whatever they say."""
        if "timeout" in call:
            return int(call["timeout"])
        if call["fun"] != DEPLOY:
            return WAIT
        app, apps = call.get("kwarg", {}).get("app"), self._opts.get(DATA, {}).get("apps", {})
        return MARGIN + int(apps.get(str(app), {}).get("timeout", DEPLOYS))

    def _target(self, call: Mapping[str, Any]) -> tuple[Any, str]:
        """The target; minions by their ids where Salt takes a glob for what they manage as well.

        Since 3008 a minion may say that it manages whatever it likes. Nobody has rights on that, so
        that one minion would stop everybody's globs.
        """
        tgt, tgt_type = call["tgt"], call.get("tgt_type", "glob")
        if tgt_type != "glob" or not set(tgt) & set("*?["):
            return tgt, tgt_type
        taken, meant = (minions(self._checker, tgt, fun=fun) for fun in (call["fun"], MERGES))
        return (meant, "list") if meant and taken != meant else (tgt, tgt_type)

    def _on_master(self, call: Mapping[str, Any], token: str) -> Done:
        words = {"kwarg": dict(call.get("kwarg", {})), "arg": list(call.get("arg", ()))}
        low = {"fun": call["fun"], "kwarg": words, "token": token}
        with salt.runner.RunnerClient(self._opts) as client:
            if call["client"] == "runner_async":
                job = salt.client.mixins.AsyncClientMixin.cmd_async(client, low)
                return Done(plain(job), str(job["jid"]), "sent")
            event = salt.client.mixins.SyncClientMixin.cmd_sync(
                client, low, call.get("timeout"), full_return=True
            )
        data = event["data"]
        value = plain(event if call.get("full_return") else data["return"])
        return Done(value, str(data["jid"]), "ok" if data.get("success") else "failed")

    def _running(self) -> None:
        """As Salt's own API looks: without this a master that is away takes minutes."""
        tcp = self._opts.get("transport") == "tcp"
        name = "publish_pull.ipc" if tcp else "workers.ipc"
        if not os.path.exists(os.path.join(self._opts["sock_dir"], name)):
            raise _away()


def _told(answers: Answers, full: bool) -> Done:
    """What minions answered, as the caller wants it."""
    told = {
        minion: it if isinstance(it, dict) else {"ret": it} for minion, it in answers.told.items()
    }
    late = {"ret": f"no answer yet; see job {answers.jid}", "out": "no_return", "retcode": 1}
    told |= dict.fromkeys(answers.late, late)
    failed = sorted(
        minion
        for minion, it in told.items()
        if it.get("retcode") or it.get("success") is False or it.get("failed")
    )
    outcome = f"failed on {', '.join(failed)}" if failed else "ok" if told else "no answer"
    if answers.late:
        outcome += f"; no answer from {', '.join(answers.late)}"
    shown = told if full else {minion: it.get("ret", {}) for minion, it in told.items()}
    return Done(plain(shown), answers.jid, outcome)


def plain(value: Any, depth: int = _DEEPEST) -> Any:
    """The value as JSON has it, without what Python says about its own files in traces, and what
    is nested deeper than anybody reads.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        before, trace, rest = value.partition(_TRACE)
        return f"{before}{(rest.strip().splitlines() or [''])[-1]}" if trace else value
    if isinstance(value, (Mapping, list, tuple, set)) and not depth:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): plain(it, depth - 1) for key, it in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(it, depth - 1) for it in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ended() -> Refused:
    return Refused(401, "your log-in has ended")


def _away() -> Refused:
    return Refused(503, "the Salt master does not answer", wait=10)
