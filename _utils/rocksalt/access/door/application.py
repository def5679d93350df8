"""The three addresses of the door, as a WSGI application: GET and POST /, POST /login and /logout.

Everything else, and every method and type of body that is not named here, is refused. Answers are
JSON: ``{"return": ...}``, or ``{"status": 403, "return": "one sentence"}``.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Protocol

from . import bodies, names
from .conf import Options
from .errors import Refused
from .filter import Rules, refusal
from .grants import Grants
from .limits import Attempts, Busy, Window, network
from .records import Records
from .request import Request
from .sessions import Session, Sessions

log = logging.getLogger("rocksalt.api")
_LONGEST_PASSWORD = 1024
_STRANGE_LINES = 60
"""Lines in a minute of one kind about one address that is not logged in; the file shall not be
filled.
"""
_RUNNERS = 60
"""Runners that nobody waits for, of one user in a minute."""
_EVENTS = {401: "refused", 403: "refused", 429: "limited"}
_LDAP = "rocksalt_ldap"
_FAILED = "this failed; the log of salt-api says why"
_HEADERS = [
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Strict-Transport-Security", "max-age=31536000"),
]
Answer = tuple[Any, list[tuple[str, str]]]
"""What is said in JSON, and headers more than those that each answer has."""


class Master(Protocol):
    """What is asked of Salt, see ``calling.Salt``."""

    def log_in(self, user: str, password: str) -> dict[str, Any] | None: ...
    def hash(self, user: str) -> str: ...
    def log_out(self, token: str) -> None: ...
    def call(self, call: dict[str, Any], token: str) -> Any: ...


class Door:
    """The application. ``clock`` tells seconds since the epoch."""

    def __init__(
        self,
        options: Options,
        clients: frozenset[str],
        master: Master,
        records: Records,
        clock: Callable[[], float],
        grants: Grants,
    ):
        self._options, self._master, self._records = options, master, records
        self._rules, self._grants, self._clock = Rules(clients), grants, clock
        self._sessions = Sessions(clock)
        self._attempts = Attempts(options.login_failures, options.login_window, clock)
        self._strange = Window(_STRANGE_LINES, 60, clock)
        self._started = Window(_RUNNERS, 60, clock)
        self._noting = threading.Lock()
        self._busy = Busy(max(2, options.thread_pool // 4))
        self._entering = Busy(max(2, options.thread_pool // 2))
        self._addresses: dict[str, dict[str, Callable[[Request], Answer]]] = {
            "/": {"GET": self._welcome, "POST": self._call},
            "/login": {"POST": self._log_in},
            "/logout": {"POST": self._log_out},
        }

    def __call__(
        self, environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], Any]
    ) -> Iterable[bytes]:
        """One request of WSGI; whatever happens, the answer is JSON without a trace."""
        status = 200
        try:
            said, headers = self._answer(Request(environ))
            body = json.dumps(said, default=str).encode()
        except Refused as refused:
            status, headers = refused.status, _told(refused)
            body = json.dumps(_said(refused.status, refused.sentence)).encode()
        except Exception:
            log.exception("a request failed")
            status, headers = 500, []
            body = json.dumps(_said(500, _FAILED)).encode()
        length = ("Content-Length", str(len(body)))
        start(f"{status} {HTTPStatus(status).phrase}", [*_HEADERS, length, *headers])
        return [body]

    def _answer(self, request: Request) -> Answer:
        methods = self._addresses.get(request.path)
        if methods is None:
            raise Refused(404, "there is no such address")
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise Refused(405, f"the method has to be {allowed}", allow=allowed)
        return methods[request.method](request)

    def _welcome(self, _: Request) -> Answer:
        return {"return": "Welcome", "clients": sorted(self._rules.clients)}, []

    def _log_in(self, request: Request) -> Answer:
        user, password = self._credentials(request)
        who = {"user": user, "source": request.source, "certificate": request.certificate}
        with self._entering.one("anybody") as may:
            if not may:
                self._note("limited", "too many log-ins at a time", **who)
                raise Refused(503, "too many others log in now", wait=5)
            return self._enter(user, password, who)

    def _enter(self, user: str, password: str, who: dict[str, str]) -> Answer:
        source = who["source"]
        if wait := self._attempts.begin(user, source):
            self._note("limited", "too many log-ins failed", **who)
            raise Refused(429, "too many log-ins failed; try again later", wait=wait)
        found, failed = None, False
        try:
            hashed = self._master.hash(user)
            found = self._master.log_in(user, password)
            failed = found is None
        except Refused as refused:
            self._note("login-refused", refused.sentence, **who)
            raise
        finally:
            self._attempts.end(user, source, failed)
        if found is None:
            # Never left out: guesses are few, and somebody may have sent much else before.
            self._records.write("login-refused", "wrong name or password", **who)
            raise Refused(401, "the name or the password is wrong")
        groups = tuple(found.get("groups") or ())
        if self._grants.all_over(user, groups, self._clock()):
            self._master.log_out(found["token"])
            self._records.write("login-refused", "all grants have ended", **who)
            raise Refused(403, "all that you were granted has ended")
        session = Session(user, found["token"], found["expire"], groups, hashed)
        new, gone = self._sessions.open(session)
        for old in gone:
            self._master.log_out(old.token)
        self._records.write("login", "ok", **who)
        told = {
            "token": new, "start": found["start"], "expire": found["expire"], "user": user,
            "eauth": found["eauth"], "perms": found["perms"],
        }  # fmt: skip
        return {"return": [told]}, [("X-Auth-Token", new)]

    def _credentials(self, request: Request) -> tuple[str, str]:
        body = request.body(self._options.max_body)
        said = bodies.parsed(body, request.kind, (bodies.JSON, bodies.FORM))
        if not isinstance(said, dict) or not {"username", "password"} <= set(said):
            raise Refused(400, "a log-in has to have username and password")
        if more := sorted(set(said) - {"username", "password", "eauth"}):
            raise Refused(400, f"{ascii(more[0])[:60]} may not be given at log-in")
        if said.get("eauth", self._options.eauth) != self._options.eauth:
            raise Refused(400, f"eauth has to be {self._options.eauth}, and may be left out")
        user, password = said["username"], said["password"]
        if not isinstance(user, str) or not isinstance(password, str):
            raise Refused(400, "username and password have to be text")
        named = len(user) <= names.LONGEST and names.USER.fullmatch(user)
        if not named or not 0 < len(password) <= _LONGEST_PASSWORD:
            # Nobody can be called so, which is known without asking; it is a guess all the same.
            self._note("login-refused", "no name of a user", "", request.source)
            raise Refused(401, "the name or the password is wrong")
        # One person is one, whose limits and whose story are one.
        return names.folded(user) if self._options.eauth == _LDAP else user, password

    def _log_out(self, request: Request) -> Answer:
        session = self._session(request)
        self._sessions.close(request.id)
        self._master.log_out(session.token)
        self._records.write("logout", "ok", user=session.user, source=request.source)
        return {"return": "Your token has been cleared"}, []

    def _call(self, request: Request) -> Answer:
        session = self._session(request)
        body = request.body(self._options.max_body)
        who = {"user": session.user, "source": request.source, "certificate": request.certificate}
        try:
            low = bodies.parsed(body, request.kind)
        except Refused as refused:
            self._records.write("refused", refused.sentence, **who)
            raise
        if why := refusal(low, self._rules):
            for call in low[: self._rules.calls] if isinstance(low, list) and low else [None]:
                self._records.write("refused", why, call=call, **who)
            raise Refused(400, why)
        with self._busy.one(session.user) as may:
            if not may:
                self._records.write("limited", "too many requests at a time", **who)
                raise Refused(429, "too many requests of yours are under way", wait=5)
            return {"return": self._all(low, session, request, who)}, []

    def _all(self, low: list[dict[str, Any]], *more: Any) -> list[Any]:
        if len(low) == 1:
            return [self._one(low[0], *more)]
        return [self._one_of_many(call, *more) for call in low]

    def _one_of_many(self, call: dict[str, Any], *more: Any) -> Any:
        """What a call gave, or why it was not done: others of the same request may be done."""
        try:
            return self._one(call, *more)
        except Refused as refused:
            return _said(refused.status, refused.sentence)
        except Exception:
            log.exception("a call failed")
            return _said(500, _FAILED)

    def _one(
        self, call: dict[str, Any], session: Session, request: Request, who: dict[str, str]
    ) -> Any:
        try:
            if self._grants.is_over(session.user, session.groups, call, self._clock()):
                raise Refused(403, "the grant that gave you this has ended")
            if call["client"] == "runner_async":
                self._limit(session.user)
            # Whoever ends this process meanwhile is known as well.
            self._records.write("asked", "begun", call=call, **who)
            done = self._master.call(call, session.token)
        except Refused as refused:
            event = _EVENTS.get(refused.status, "call")
            self._records.write(event, refused.sentence, call=call, **who)
            if refused.status == 401:
                self._sessions.close(request.id)
            raise
        except Exception:
            self._records.write("call", "failed in salt-api", call=call, **who)
            raise
        if call["client"] == "runner_async":
            self._count(session.user)
        self._records.write("call", done.outcome, call=call, jid=done.jid, **who)
        return done.value

    def _limit(self, user: str) -> None:
        """Nobody waits for these runners, so that only their number limits them."""
        with self._noting:
            if wait := self._started.wait(user):
                raise Refused(429, "you started too many runners within a minute", wait=wait)

    def _count(self, user: str) -> None:
        with self._noting:
            self._started.add(user)

    def _session(self, request: Request) -> Session:
        found = self._sessions.find(request.id)
        if found is None:
            self._note("refused", "not logged in", "", request.source, request.certificate)
            raise Refused(401, "log in first, and send the token as X-Auth-Token")
        if self._master.hash(found.user) != found.hash:
            self._sessions.close(request.id)
            self._master.log_out(found.token)
            who = {"user": found.user, "source": request.source}
            self._records.write("logout", "it was by a former password", **who)
            raise Refused(401, "the password was changed since; log in again")
        return found

    def _note(
        self, event: str, outcome: str, user: str, source: str, certificate: str = ""
    ) -> None:
        """A line about somebody who is not logged in, unless there were many such of this
        address.
        """
        key = f"{event} {network(source)}"
        with self._noting:
            if self._strange.wait(key):
                return
            self._strange.add(key)
            more = "" if not self._strange.wait(key) else "; more of this are not noted"
        who = {"user": user, "source": source, "certificate": certificate}
        self._records.write(event, f"{outcome}{more}", **who)


def _told(refused: Refused) -> list[tuple[str, str]]:
    headers = [("Retry-After", str(math.ceil(refused.wait)))] if refused.wait else []
    if refused.status == 401:
        headers.append(("WWW-Authenticate", "Session"))
    return [*headers, ("Allow", refused.allow)] if refused.allow else headers


def _said(status: int, sentence: str) -> dict[str, Any]:
    return {"status": status, "return": sentence}
