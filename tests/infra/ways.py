"""Whether declared administrators get in by key and become root, by what the host's tools say."""

from __future__ import annotations

from .asking import Look
from .pillars import Expected


def names(wanted: Expected) -> list[str]:
    """The declared administrators."""
    return list(wanted.baseline.families["accounts"].settings["administrators"])


def look(wanted: Expected) -> dict[str, str]:
    """What is asked about them."""
    people = " ".join(names(wanted)) or "root"
    each = f'for who in {people}; do echo "== $who"; %s; done; :'
    keys = "for file in .ssh/authorized_keys .ssh/authorized_keys2; do"
    home = "$(getent passwd $who | cut -d: -f6)"
    return {
        "people": each % "getent passwd $who",
        "groups": each % "id -Gn $who",
        "sudo": each % "sudo -n -l -U $who",
        "state": each % "passwd -S $who; chage -l $who | grep 'Account expires'",
        "authorized": each % f"{keys} cat {home}/$file 2>/dev/null; done",
        "modes": each
        % f"stat -c '%a %U %n' {home} {home}/.ssh {home}/.ssh/authorized_keys 2>/dev/null",
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


def key_of(line: str) -> str:
    """The key of a line of authorized_keys, without options and comment."""
    words = line.split()
    return next((word for word in words if word.startswith("AAAA")), "")


def grants(lines: list[str]) -> list[str]:
    """The commands of ``sudo -l`` that somebody may run."""
    start = next((n for n, line in enumerate(lines) if "may run the following" in line), None)
    return [] if start is None else lines[start + 1 :]


def problems(
    seen: Look, wanted: Expected, sshd: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """By administrator, what keeps that person from a log-in by key that ends as root."""
    about = {key: parts(seen[key].text) for key in look(wanted)}
    declared = wanted.baseline.families["accounts"].settings["administrators"]
    found = {}
    for name in names(wanted):
        entry = "".join(about["people"][name])
        state = " ".join(about["state"][name])
        groups = set(" ".join(about["groups"][name]).split())
        authorized = {key_of(it) for it in about["authorized"][name] if not it.startswith("#")}
        own = [line.split(" ", 2) for line in about["modes"][name]]
        rules = grants(about["sudo"][name])
        free = any(rule == "(ALL : ALL) NOPASSWD: ALL" for rule in rules)
        password = state.split()[1:2] == ["P"]
        checks = {
            "has no account": not entry,
            f"has no shell ({entry.split(':')[-1]})": entry.endswith(("nologin", "false")),
            "has expired": "Account expires" in state and not state.endswith("never"),
            "has none of the declared keys": not authorized
            & {key_of(key) for key in declared[name]["keys"]},
            "keeps keys where others can write": any(
                int(mode, 8) & 0o022 or owner not in (name, "root") for mode, owner, _ in own
            ),
            "does not become root by sudo": not any(rule.endswith("ALL") for rule in rules)
            or not (free or password),
            "is in none of the groups that may log in": sshd is not None
            and not groups & set(sshd.get("allowgroups", groups)),
        }
        found[name] = [problem for problem, true in checks.items() if true]
    return found
