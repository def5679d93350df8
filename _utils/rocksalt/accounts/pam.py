"""PAM stacks: files parsed, walked as libpam walks them, and what that means for passwords.

Sources: pam.d(5), pam.conf(5), pam_unix(8), pam_faillock(8), pam_pwhistory(8), pam_pwquality(8),
pam_umask(8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt.host import Host

FOLDER, VENDOR = "/etc/pam.d", "/usr/lib/pam.d"
TYPES = ("auth", "account", "password", "session", "session-noninteractive")
COMMON = {kind: f"{FOLDER}/common-{kind}" for kind in TYPES}
UNIX, FAILLOCK = "pam_unix.so", "pam_faillock.so"
HISTORY, QUALITY, UMASK = "pam_pwhistory.so", "pam_pwquality.so", "pam_umask.so"
HASHES = ("yescrypt", "gost_yescrypt", "blowfish", "sha512", "sha256", "md5", "bigcrypt")
_BAD = {"required": "bad", "requisite": "die", "sufficient": "ignore", "optional": "ignore"}
_WORDS = re.compile(r"\[(?:\\.|[^\]\\])*\]|\S+")
_SKIPPED = re.compile(r"\.(?:disabled-by-rocksalt|pam-old|pam-new|dpkg-\w+|ucf-\w+)$|~$|/\.")
_DEPTH = 8


@dataclass(frozen=True)
class Rule:
    """A line of a stack: ``control`` as written, ``module`` without its folder; ``number`` counts
    lines from 1.
    """

    kind: str
    control: str
    module: str
    arguments: tuple[str, ...]
    path: str
    number: int

    @property
    def place(self) -> str:
        return f"{self.path} line {self.number}"

    @property
    def options(self) -> dict[str, str]:
        """Arguments by name; those without a value have an empty one."""
        return {name: value for name, _, value in (a.partition("=") for a in self.arguments)}

    def action(self, result: str) -> str:
        """What libpam does after the module returned ``result``."""
        if not self.control.startswith("["):
            if result == "success":
                return "done" if self.control == "sufficient" else "ok"
            return "ignore" if result == "ignore" else _BAD.get(self.control, "bad")
        actions = dict(w.split("=", 1) for w in self.control[1:-1].split() if "=" in w)
        return actions.get(result, actions.get("default", "bad"))


Stacks = Mapping[str, Sequence[Rule]]
Outcome = Callable[[Rule], str]


def parse(path: str, read: Callable[[str], str | None], depth: int = 0) -> list[Rule]:
    """The rules of a file, those of the files that it includes in their place."""
    rules: list[Rule] = []
    for number, line in _logical(read(path) or ""):
        words = _WORDS.findall(line)
        if words[:1] == ["@include"] and len(words) == 2 and depth < _DEPTH:
            rules += parse(_file(words[1]), read, depth + 1)
        elif len(words) >= 3:
            kind, control, module = words[0].lstrip("-").lower(), words[1].lower(), words[2]
            if control in ("include", "substack") and depth < _DEPTH:
                included = parse(_file(module), read, depth + 1)
                rules += [rule for rule in included if rule.kind == kind]
            else:
                module = module.rsplit("/", 1)[-1]
                rules.append(Rule(kind, control, module, tuple(words[3:]), path, number))
    return rules


def jump(control: str) -> int:
    """Over how many lines a control can jump at most, 0 where it does not."""
    return max(map(int, re.findall(r"=(\d+)", control.partition("]")[0])), default=0)


def services(host: Host) -> list[str]:
    """The files of all services, the common ones as well."""
    paths = [path for folder in (FOLDER, VENDOR) for path in host.glob(f"{folder}/*")]
    return [path for path in paths if not _SKIPPED.search(path)]


def _file(name: str) -> str:
    return name if name.startswith("/") else f"{FOLDER}/{name}"


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number, continued ones joined, without comments."""
    start, held = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        start = start if held else number
        held += line.split("#", 1)[0]
        if held.endswith("\\"):
            held = held[:-1] + " "
            continue
        if held.strip():
            yield start, held
        held = ""


def walk(rules: Sequence[Rule], outcome: Outcome) -> tuple[bool, list[Rule]]:
    """Whether the stack says yes where its modules return what ``outcome`` tells, and the rules
    that were asked, in order.
    """
    verdict: str | None = None
    asked: list[Rule] = []
    position = 0
    while position < len(rules):
        rule = rules[position]
        asked.append(rule)
        position += 1
        result = outcome(rule)
        action = rule.action(result)
        if action.isdigit():
            position += int(action)
            if position > len(rules):
                return False, asked
        elif action in ("ok", "done"):
            verdict = result if verdict in (None, "success") else verdict
            if action == "done" and verdict == "success":
                break
        elif action in ("bad", "die"):
            verdict = "failure" if verdict in (None, "success") else verdict
            if action == "die":
                break
        elif action == "reset":
            verdict = None
    return verdict == "success", asked


def outcome(password: str = "right", failing: str = "") -> Outcome:
    """What modules return for a local account whose password was typed ``right``, ``wrong``, or is
    ``empty``; the module ``failing`` fails. Modules that nobody here knows have no opinion.
    """

    def of(rule: Rule) -> str:
        if rule.module in (failing, "pam_deny.so"):
            return "auth_err"
        if rule.module == FAILLOCK:
            return "auth_err" if "authfail" in rule.arguments else "success"
        if rule.module == UNIX and rule.kind == "auth":
            nullok = {"nullok", "nullok_secure"} & set(rule.arguments)
            return "success" if password == "right" or (password == "empty" and nullok) else "bad"
        return "success" if rule.module in _AGREEING else "ignore"

    return of


_AGREEING = (UNIX, HISTORY, QUALITY, UMASK, "pam_permit.so")


def lets_in(stacks: Stacks, password: str) -> Rule | None:
    """The rule after which such a password is accepted, None where it is not."""
    granted, asked = walk(stacks["auth"], outcome(password))
    yes = [rule for rule in asked if outcome(password)(rule) == "success"]
    return (yes or asked)[-1] if granted else None


def nullok(rules: Sequence[Rule]) -> list[Rule]:
    """The rules by which an account without a password is let in."""
    return [
        rule
        for rule in rules
        if rule.kind == "auth"
        and rule.module == UNIX
        and {"nullok", "nullok_secure"} & set(rule.arguments)
    ]


def lockout(stacks: Stacks, configured: Mapping[str, str]) -> dict[str, Any]:
    """``{failures, seconds, unexpected}``: when wrong passwords lock an account, for how long, and
    sentences about what is not as it should be. ``configured`` is faillock.conf.
    """
    path = COMMON["auth"]
    _, wrong = walk(stacks["auth"], outcome("wrong"))
    accepted, _ = walk(stacks["auth"], outcome("right"))
    before = _first(wrong, lambda r: r.module == FAILLOCK and "preauth" in r.arguments)
    asks = _first(wrong, lambda r: r.module == UNIX)
    counts = _first(wrong, lambda r: r.module == FAILLOCK and "authfail" in r.arguments)
    unexpected = []
    if before is None or (asks and wrong.index(before) > wrong.index(asks)):
        unexpected.append(f"{path} does not ask pam_faillock.so preauth before pam_unix.so")
    if counts is None:
        unexpected.append(f"{path} does not count a wrong password by pam_faillock.so authfail")
    if not accepted:
        unexpected.append(f"{path} refuses a right password")
    _, account = walk(stacks["account"], outcome())
    if not any(rule.module == FAILLOCK for rule in account):
        unexpected.append(f"{COMMON['account']} does not reset the count by pam_faillock.so")
    options = [{**configured, **rule.options} for rule in (before, counts) if rule]
    if any({"even_deny_root", "root_unlock_time"} & set(each) for each in options):
        unexpected.append("root is locked out, too")
    for name in ("deny", "unlock_time"):
        if len({each.get(name) for each in options}) > 1:
            unexpected.append(f"the lines of pam_faillock.so in {path} differ in {name}")
    counting = options[-1] if options else None
    return {
        "failures": None if counting is None else _number(counting.get("deny", "3")),
        "seconds": None if counting is None else _number(counting.get("unlock_time", "600")),
        "unexpected": unexpected,
    }


def history(stacks: Stacks, configured: Mapping[str, str]) -> dict[str, Any]:
    """``{remembered, root}``: how many old passwords are refused, and to root as well;
    ``configured`` is pwhistory.conf.
    """
    rule = required(stacks["password"], HISTORY)
    if rule is None:
        return {"remembered": 0, "root": False}
    options = {**configured, **rule.options}
    return {
        "remembered": _number(options.get("remember", "10")),
        "root": "enforce_for_root" in options,
    }


def required(rules: Sequence[Rule], module: str) -> Rule | None:
    """The rule by which a module can refuse a new password before pam_unix.so takes it, if any."""
    granted, asked = walk(rules, outcome())
    stopped, _ = walk(rules, outcome(failing=module))
    found = _first(asked, lambda rule: rule.module == module)
    taken = _first(asked, lambda rule: rule.module == UNIX)
    early = found and taken and asked.index(found) < asked.index(taken)
    return found if granted and not stopped and early else None


def hashing(stacks: Stacks, configured: str) -> str:
    """The hash of a new password; ``configured`` is ENCRYPT_METHOD of login.defs."""
    _, asked = walk(stacks["password"], outcome())
    rule = _first(asked, lambda each: each.module == UNIX)
    named = [word for word in rule.arguments if word in HASHES] if rule else []
    return named[-1] if named else configured.lower()


def umask(rules: Sequence[Rule]) -> str:
    """The umask of a session in three digits, in words where no rule sets one."""
    _, asked = walk(rules, outcome())
    setting = [rule for rule in asked if rule.module == UMASK]
    text = setting[-1].options.get("umask", "") if setting else ""
    if not re.fullmatch("[0-7]{1,4}", text):
        return "not set"
    return f"{int(text, 8):03o}" + ("" if "nousergroups" in setting[-1].arguments else ", relaxed")


def settings(text: str) -> dict[str, str]:
    """A file of ``name = value`` lines and bare names, such as faillock.conf."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.split("#", 1)[0].partition("=")
        if name.strip():
            found[name.strip()] = value.strip()
    return found


def _first(rules: Sequence[Rule], which: Callable[[Rule], bool]) -> Rule | None:
    return next((rule for rule in rules if which(rule)), None)


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text
