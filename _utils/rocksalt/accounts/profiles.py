"""Profiles of pam-auth-update: ours, what is enabled, and how the common files come from them.

pam-auth-update keeps options that somebody changed in the common files by hand, and refuses to
touch files with lines that it does not know. So such edits are taken out before it runs: of our
modules they go, of others they move to where it leaves them alone. Source: pam-auth-update(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt.accounts import pam
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import ASIDE, must

FOLDER, SAVED = "/usr/share/pam-configs", "/var/lib/pam"
_TEMPLATES = "/usr/share/pam"
STOCK, QUALITY = "unix", "pwquality"
OURS = ("rocksalt-first", "rocksalt-history", "rocksalt-unix", "rocksalt-last", "rocksalt-umask")
INTERVAL = 900
_PRIMARY = '# here are the per-package modules (the "Primary" block)'
_FALLBACK = "# here's the fallback if no module succeeds"
_ADDITIONAL = '# and here are more per-package modules (the "Additional" block)'
_FINISH = "# end of pam-auth-update config"
_MARKS = (_PRIMARY, _FALLBACK, _ADDITIONAL, _FINISH)
_FALLBACK_RULES = ("requisite pam_deny.so", "required pam_permit.so")
_LINE = re.compile(r"^(-?\w[\w-]*\s+)((?:\[[^\]]+\]|\w+)\s+\S+)\s*(.*)$")
_CONTROLLED = {
    *(pam.UNIX, pam.FAILLOCK, pam.HISTORY, pam.QUALITY, pam.UMASK),
    *("pam_deny.so", "pam_permit.so", "pam_cracklib.so", "pam_tally.so", "pam_tally2.so"),
}


@dataclass(frozen=True)
class Plan:
    """What pam-auth-update is to make: ``texts`` of our profiles by name, all of them enabled; the
    profiles of others to ``enable`` and to ``disable``.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    enable: Sequence[str] = ()
    disable: Sequence[str] = ()

    @property
    def gone(self) -> list[str]:
        """Our profiles that are not to be there."""
        return [name for name in OURS if name not in self.texts]

    @property
    def command(self) -> list[str]:
        return [
            *("env", "DEBIAN_FRONTEND=noninteractive", "pam-auth-update", "--package"),
            *("--enable", *self.texts, *self.enable),
            *("--disable", *self.disable, "--remove", *self.gone),
        ]


def _profile(title: str, priority: int, *fields: str) -> str:
    """The parser knows no comments, but passes over fields that it does not know."""
    head = f"Name: {title}\nManaged-By: rocksalt; changes of this file are overwritten\n"
    return "\n".join([f"{head}Default: no\nPriority: {priority}", *fields]) + "\n"


def _section(kind: str, line: str, initial: str = "", order: str = "Primary") -> str:
    return f"{kind}-Type: {order}\n{kind}:\n\t{line}" + (
        f"\n{kind}-Initial:\n\t{initial}" if initial else ""
    )


def unix(nullok: bool = False, yescrypt: bool = True) -> str:
    """Debian's profile ``unix``, without nullok and with yescrypt."""
    control = "[success=end default=ignore]\tpam_unix.so"
    account = "[success=end new_authtok_reqd=done default=ignore]\tpam_unix.so"
    empty = " nullok" if nullok else ""
    new = "obscure{} yescrypt" if yescrypt else "obscure{}"
    again = " use_authtok try_first_pass"
    return _profile(
        "Passwords of this host (rocksalt)",
        256,
        "Conflicts: unix",
        _section("Auth", f"{control}{empty} try_first_pass", f"{control}{empty}"),
        _section("Account", account, account),
        _section("Session", "required\tpam_unix.so", "required\tpam_unix.so", "Additional"),
        _section("Password", f"{control} {new.format(again)}", f"{control} {new.format('')}"),
    )


def lockout(failures: int, seconds: int) -> dict[str, str]:
    """Wrong passwords lock an account: asked before all modules that take a password, counted after
    them. root is never locked.
    """
    options = f"deny={failures} unlock_time={seconds} fail_interval={INTERVAL}"
    first = f"requisite\tpam_faillock.so preauth silent {options}"
    last = f"[default=die]\tpam_faillock.so authfail {options}"
    return {
        "rocksalt-first": _profile(
            "Locked accounts are refused (rocksalt)",
            2048,
            _section("Auth", first),
            _section("Account", "required\tpam_faillock.so"),
        ),
        "rocksalt-last": _profile(
            "Wrong passwords are counted (rocksalt)", 0, _section("Auth", last)
        ),
    }


def history(remembered: int) -> str:
    """Old passwords are refused."""
    line = f"requisite\tpam_pwhistory.so remember={remembered} enforce_for_root"
    section = _section("Password", f"{line} use_authtok", line)
    return _profile("Old passwords are refused (rocksalt)", 512, section)


def umask(mask: str) -> str:
    """Sessions begin with this umask, after every other module."""
    line = f"optional\tpam_umask.so umask={mask} nousergroups"
    section = _section("Session", line, order="Additional")
    return _profile("The umask of sessions (rocksalt)", 0, section)


def build(inside: Host, plan: Plan) -> dict[str, str]:
    """Has pam-auth-update make the common files on a host where nothing can go wrong; path -> text
    of what it wrote, and of what somebody wrote in place of it before. Raises :class:`Refused`
    where a line of others would be lost, or a jump of others would end elsewhere.
    """
    first = not set(OURS) & set(enabled_profiles(inside))
    jumps = list(_jumps(inside))
    enabled = [name for name in enabled_profiles(inside) if name not in (*OURS, *plan.disable)]
    before = [rule for path in pam.COMMON.values() for rule in pam.parse(path, inside.read)]
    for name, text in plan.texts.items():
        inside.write(f"{FOLDER}/{name}", text)
    command, aside = plan.command, dict[str, str]()
    for kind, path in pam.COMMON.items():
        old, saved = inside.read(path) or "", inside.read(f"{SAVED}/{kind}")
        if saved and _whole(old):
            text = normalised(path, old, saved)
        else:
            aside |= {f"{path}{ASIDE}": old} if old and first else {}
            text = inside.read(f"{_TEMPLATES}/common-{kind}") or ""
            command = [*plan.command, "--force", "--enable", *enabled]
        inside.write(path, text)
    must(inside, "pam-auth-update failed", *command)
    after = [rule for path in pam.COMMON.values() for rule in pam.parse(path, inside.read)]
    _must_be_kept(before, after)
    for rule, path in jumps:
        if _shape(before, rule, path) != _shape(after, rule, path):
            raise Refused(
                f"{rule.place}, {rule.module}, jumps over lines of {path}, whose number changes: "
                "write done or ignore in place of the number"
            )
    paths = [*pam.COMMON.values(), *(f"{SAVED}/{kind}" for kind in (*pam.TYPES, "seen"))]
    return {**aside, **{path: inside.read(path) or "" for path in paths}}


def _must_be_kept(before: Sequence[pam.Rule], after: Sequence[pam.Rule]) -> None:
    """Modules that are not ours to judge are in the new files as well."""
    kept = {(rule.kind, rule.module) for rule in after}
    for rule in before:
        if rule.module not in _CONTROLLED and (rule.kind, rule.module) not in kept:
            raise Refused(
                f"{rule.place}, {rule.module}, was written by hand and would be lost: describe it "
                f"as a profile in {FOLDER}, and run pam-auth-update --force"
            )


def _jumps(host: Host) -> Iterator[tuple[pam.Rule, str]]:
    """Jumps in files of services, and the common files over whose lines they go."""
    common = set(pam.COMMON.values())
    for service in sorted(set(pam.services(host)) - common):
        rules = pam.parse(service, host.read)
        for rule in rules:
            if rule.path == service and (far := pam.jump(rule.control)):
                stack = [other for other in rules if other.kind == rule.kind]
                here = stack.index(rule) + 1
                passed = {other.path for other in stack[here : here + far]}
                yield from ((rule, path) for path in sorted(passed & common))


def _shape(rules: Sequence[pam.Rule], jump: pam.Rule, path: str) -> list[str]:
    """The modules of a common file that a jump counts."""
    return [rule.module for rule in rules if (rule.path, rule.kind) == (path, jump.kind)]


def enabled_profiles(host: Host) -> list[str]:
    """The profiles that pam-auth-update used last."""
    texts = [host.read(f"{SAVED}/{kind}") or "" for kind in pam.TYPES]
    names = re.findall(r"^Module: (\S+)$", "\n".join(texts), re.MULTILINE)
    return [name for name in dict.fromkeys(names) if name != "null"]


def normalised(path: str, text: str, saved: str) -> str:
    """A common file with what somebody changed in it by hand undone or moved out of the way of
    pam-auth-update, according to what that ``saved``. Raises :class:`Refused` where neither helps.
    """
    known = list(_known(saved))
    rest = dict(enumerate(known))
    kept: list[str] = []
    above: list[str] = []
    below: list[str] = []
    written: dict[str, list[tuple[int, str]]] = {_PRIMARY: [], _ADDITIONAL: []}
    for block, line in _blocks(text):
        match, is_mark = _LINE.match(line), line.startswith(_MARKS)
        head = match[2] if match and not line.startswith("#") else ""
        module = head.split()[-1].rsplit("/", 1)[-1] if head else ""
        if is_mark or block not in written:
            stock = _key(head) in _FALLBACK_RULES or (module == pam.UMASK and block != _FINISH)
            if module not in _CONTROLLED or stock:
                _must_not_jump(path, head if block == "" else "")
                kept.append(line)
            continue
        position = next((i for i, (key, _) in rest.items() if head and key == _key(head)), None)
        if match and position is not None:
            options = rest.pop(position)[1] if module in _CONTROLLED else match[3]
            written[block].append((position, f"{match[1]}{head} {options}".rstrip()))
            rest.pop(position, None)
        elif line.strip() and module not in _CONTROLLED:
            _must_not_jump(path, head)
            (above if block == _PRIMARY else below).append(line)
    return "\n".join(_placed(kept, above, below, written))


def _must_not_jump(path: str, head: str) -> None:
    """A jump written by hand would end elsewhere; ``head`` is its control and module."""
    if pam.jump(head):
        raise Refused(
            f"{path} has a line of {head.split()[-1]} with a jump, written by hand: describe it as "
            f"a profile in {FOLDER}, and run pam-auth-update"
        )


def _placed(
    lines: Sequence[str],
    above: Sequence[str],
    below: Sequence[str],
    written: Mapping[str, Sequence[tuple[int, str]]],
) -> Iterator[str]:
    """What pam-auth-update wrote, in its order, with the lines of others right above and below."""
    for line in lines:
        if line.startswith(_PRIMARY):
            yield from above
        yield line
        mark = next((mark for mark in written if line.startswith(mark)), None)
        if mark:
            yield from (text for _, text in sorted(written[mark]))
        if line.startswith(_FINISH):
            yield from below


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Each line with the mark that it comes after."""
    block = ""
    for line in text.split("\n"):
        block = next((mark for mark in _MARKS if line.startswith(mark)), block)
        yield block, line


def _whole(text: str) -> bool:
    """Whether pam-auth-update finds its marks, and the fallback stands between them; Debian 13 has
    a umask there, too.
    """
    marks = [text.find(mark) for mark in _MARKS]
    rules = [
        m[2] for block, line in _blocks(text) if block == _FALLBACK and (m := _LINE.match(line))
    ]
    fallback = tuple(key for key in map(_key, rules) if not key.endswith(pam.UMASK))
    return -1 not in marks and marks == sorted(marks) and fallback == _FALLBACK_RULES


def _known(saved: str) -> Iterator[tuple[str, str]]:
    """Control and module of each line that pam-auth-update wrote, and its options."""
    for line in saved.splitlines():
        match = _LINE.match(f"x {line}")
        if match and not line.startswith("Module:"):
            yield _key(match[2]), match[3]


def _key(head: str) -> str:
    """Control and module without how far a jump goes."""
    return re.sub(r"=(?:\d+|end)\b", "=", " ".join(head.split()))
