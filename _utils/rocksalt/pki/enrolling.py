"""The functions of a runner that has an authority: it signs for minions, who may claim anything."""

from __future__ import annotations

import datetime as dt
import logging
import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.pki import authority as authorities
from rocksalt.pki import certificates

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
log = logging.getLogger(__name__)
_SHOWN = 300
_GIVEN = "the pillar brings its certificates, so they are not renewed here"


class Minions:
    """Asks minions through a local client of the master, which have ``timeout`` seconds."""

    def __init__(self, client: Any, timeout: int):
        self._client = client
        self._timeout = timeout

    def ask(self, tgt: Any, tgt_type: str, function: str, *arguments: Any) -> dict[str, Any]:
        """Minion -> answer, of those that answered."""
        answers = self._client.cmd(
            tgt, function, list(arguments), tgt_type=tgt_type, timeout=self._timeout
        )
        return {minion: answer for minion, answer in (answers or {}).items() if answer is not False}

    def ask_one(self, minion: str, function: str, *arguments: Any) -> Any:
        """The answer of one minion; :class:`Refused` where there is none."""
        answers = self.ask([minion], "list", function, *arguments)
        if minion not in answers:
            raise Refused(f"{function} was not answered")
        return answers[minion]

    def install(self, minion: str, function: str, *arguments: Any) -> str:
        """What a minion says of what was brought; :class:`Refused` where it is not installed."""
        said = self.ask_one(minion, function, *arguments)
        if not isinstance(said, str) or not said.startswith("installed"):
            raise Refused(f"{function}: {short(said)}")
        return short(said)


@dataclass(frozen=True)
class Round:
    """Whom to bring certificates to. ``family`` has the functions certificate, request, install;
    what the first says by the key ``wanted`` is false on a minion of ``others``, which needs none.
    """

    family: str
    wanted: str
    others: str
    tgt: Any
    tgt_type: str = "glob"
    force: bool = False


class Office:
    """The authority of a ``runner``, in its usual folder where none is named."""

    def __init__(self, runner: str, folder: str | None = None):
        self.runner = runner
        self.folder = folder or authorities.folder_of(runner)

    @property
    def known(self) -> authorities.Authority:
        """The authority; :class:`Refused` where there is none yet."""
        return authorities.Authority(Host(), self.runner, self.folder)

    def authority(self, name: str, days: int) -> dict[str, Any]:
        """Makes it unless it is there: ``{"made", "sha256", "expires", "certificate": PEM}``."""
        made = authorities.make(Host(), name, days, now(), self.folder)
        found = self.known
        return {
            "made": made,
            "sha256": found.fingerprint,
            "expires": authorities.stamp(certificates.expires(found.certificate)),
            "certificate": found.text,
        }

    def issued(self) -> dict[str, Any]:
        """All that was signed."""
        return {"certificates": [dict(vars(entry)) for entry in self.known.issued()]}

    def forget(self, name: str) -> dict[str, Any]:
        """Strikes what was signed for a name."""
        return {"forgotten": self.known.forget(name, now())}

    def outsider(
        self, role: str, name: str, request: str | None, days: int | None
    ) -> dict[str, Any]:
        """Signs for a host that is no minion, as a ``client`` or a ``server``: from its request, or
        with a key that is made here for root alone.

        Returns ``{"certificate", "authority", "key": paths, "expires"}``.
        """
        if not NAME.fullmatch(name):
            raise Refused(f"{name!r} is no name of a host")
        host, known, folder = Host(), self.known, f"{self.folder}/{role}s"
        paths = {"certificate": f"{folder}/{name}.pem", "authority": f"{self.folder}/ca.pem"}
        key = None
        if request:
            text = host.read(request)
            if text is None:
                raise Refused(f"{request} does not exist")
            public = certificates.load_request(text, request).public_key()
        else:
            key = certificates.new_key()
            public, paths["key"] = key.public_key(), f"{folder}/{name}.key"
        sign = known.client if role == certificates.CLIENT else known.outsider
        signed = sign(public, name, self.days(days), now())
        if key:
            host.write(paths["key"], certificates.key_pem(key), "0600")
        host.write(paths["certificate"], certificates.pem(signed), "0644")
        return {**paths, "expires": authorities.stamp(certificates.expires(signed))}

    def days(self, days: Any) -> int:
        """How long a certificate is valid; a year where nobody says it, or as long as the authority
        is.
        """
        return int(days) if days is not None else self.known.days(now())

    def enrol(
        self, minions: Minions, asked: Round, bring: Callable[[str, dict[str, Any]], str]
    ) -> dict[str, Any]:
        """``bring`` takes a minion and its status, and says what happened.

        Returns ``{"enrolled": {minion: what happened}, "kept": {minion: days left}, "problems":
        {minion: sentence}}``, with the list of ``others``, and ``retcode`` 1 where there are
        problems.
        """
        enrolled, kept, others, problems = {}, {}, [], {}
        known = self.known
        # Minions know the pillar as it was long ago.
        minions.ask(asked.tgt, asked.tgt_type, "saltutil.refresh_pillar", True)
        function = f"{asked.family}.certificate"
        answers = minions.ask(asked.tgt, asked.tgt_type, function)
        for minion, status in sorted(answers.items()):
            if not isinstance(status, dict):
                problems[minion] = f"{function} did not answer as expected: {short(status)}"
            elif not status.get(asked.wanted):
                others.append(minion)
            elif status.get("given"):
                problems[minion] = _GIVEN
            elif not asked.force and _is_good(status, known):
                kept[minion] = status.get("days_left")
            else:
                try:
                    enrolled[minion] = bring(minion, status)
                except RocksaltError as error:
                    problems[minion] = str(error)
                except Exception as error:
                    log.exception("%s: %s", self.runner, minion)
                    problems[minion] = f"{type(error).__name__}: {error}"
        if not answers:
            problems["*"] = f"no minion answered that is {asked.tgt_type} {asked.tgt!r}"
        found = {"enrolled": enrolled, "kept": kept, asked.others: others, "problems": problems}
        return {**found, "retcode": 1} if problems else found

    def plainly(self, function: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a function returns; an error as ``{"reason", "retcode": 1}``. A TypeError would be
        taken for wrong arguments, with exit code 0.
        """
        try:
            return work()
        except RocksaltError as error:
            return {"reason": str(error), "retcode": 1}
        except PermissionError as error:
            return {"reason": self._forbidden(error), "retcode": 1}
        except Exception as error:
            log.exception("%s.%s", self.runner, function)
            return {"reason": f"{type(error).__name__}: {error}", "retcode": 1}

    def _forbidden(self, error: PermissionError) -> str:
        """Salt's packages run the master, and its runners, as another user than root."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        why = f"{error.filename} is not for {user}, whom runners run as"
        path, folder = f"{error.filename}/", f"{self.folder}/"
        if not (path.startswith(folder) or folder.startswith(path)):  # such as a request
            return why
        return f"{why}: install -d -o {user} -m 0700 {self.folder}"


def _is_good(status: Mapping[str, Any], known: authorities.Authority) -> bool:
    return not status.get("renew") and status.get("authority") == known.fingerprint


def now() -> dt.datetime:
    """The time, in UTC."""
    return dt.datetime.now(dt.timezone.utc)


def short(claim: Any) -> str:
    """What a minion says, short enough for a sentence."""
    text = " ".join(str(claim).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
