"""Whether declared administrators get in by key and become root, by what the host's tools say."""

from __future__ import annotations

from . import keys
from .asking import Look
from .pillars import Expected


def names(wanted: Expected) -> list[str]:
    """The declared administrators."""
    return list(wanted.baseline.families["accounts"].settings["administrators"])


def look(wanted: Expected) -> dict[str, str]:
    """What is asked about them."""
    people = " ".join(names(wanted)) or "root"
    each = f'for who in {people}; do echo "== $who"; %s; done; :'
    return {
        "people": each % "getent passwd $who",
        "groups": each % "id -Gn $who",
        "sudo": each % "sudo -n -l -U $who",
        "state": each % "passwd -S $who; chage -l $who | grep 'Account expires'",
        "authorized": keys.SHOW,
        "read": each % "sshd -T -C user=$who,host=localhost,addr=127.0.0.1"
        " | sed -n 's/^authorizedkeysfile //p'",
        "modes": keys.MODES.replace("PEOPLE", people),
    }


def parts(text: str) -> dict[str, list[str]]:
    """The lines about each, from output in which ``== name`` stands above them."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line[3:], [])
        elif line.strip():
            lines.append(line.strip())
    return found


def grants(lines: list[str]) -> list[str]:
    """The commands of ``sudo -l`` that somebody may run."""
    start = next((n for n, line in enumerate(lines) if "may run the following" in line), None)
    return [] if start is None else lines[start + 1 :]


def opening(seen: Look, name: str) -> set[keys.Key]:
    """The keys by which sshd lets an administrator in: of files in which it looks. Of who has no
    account (ACC-010), any.
    """
    patterns = " ".join(parts(seen["read"].text)[name])
    entry = "".join(parts(seen["people"].text)[name])
    files = keys.places(patterns, entry) if entry else None
    return {key for who, _, key in keys.shown(seen["authorized"], files) if who == name}


def problems(
    seen: Look, wanted: Expected, sshd: dict[str, list[str]] | None = None
) -> dict[str, dict[str, str]]:
    """By administrator, what keeps that person from a log-in by key that ends as root: sentences
    and the control that is about it.
    """
    about = {key: parts(seen[key].text) for key in ("people", "groups", "sudo", "state")}
    rows = [line.split("\t") for line in seen["modes"].lines]
    declared = wanted.baseline.families["accounts"].settings["administrators"]
    found = {}
    for name in names(wanted):
        entry = "".join(about["people"][name])
        state = " ".join(about["state"][name])
        groups = set(" ".join(about["groups"][name]).split())
        own = [row[1:] for row in rows if row[0] == name]
        rules = grants(about["sudo"][name])
        free = any(rule == "(ALL : ALL) NOPASSWD: ALL" for rule in rules)
        password = state.split()[1:2] == ["P"]
        shell = entry.split(":")[-1]
        mine = opening(seen, name) & keys.declared(declared[name]["keys"])
        checks = {
            ("ACC-010", "has no account"): not entry,
            ("ACC-010", f"has no shell ({shell})"): shell.endswith(("nologin", "false")),
            ("ACC-010", "has expired"): "Account expires" in state and not state.endswith("never"),
            ("ACC-011", "has none of the declared keys, as they are declared"): not mine,
            ("ACC-011", "keeps keys where others can write"): any(
                int(mode, 8) & 0o022 or owner not in (name, "root") for mode, owner, _ in own
            ),
            ("ACC-012", "does not become root by sudo"): not any(r.endswith("ALL") for r in rules)
            or not (free or password),
            ("SSHD-108", "is in none of the groups that may log in"): sshd is not None
            and not groups & set(sshd.get("allowgroups", groups)),
        }
        found[name] = {text: control for (control, text), true in checks.items() if true}
    return found
