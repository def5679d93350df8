"""Keys that open accounts, from every file in which sshd looks for them: MODES, of the accounts in
place of PEOPLE, has owners and modes of what holds them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from .asking import Answer
from .pillars import Expected

# Under whatever condition sshd's files name a place, and the two usual ones. Prints account and
# path, for every account and every file that is there.
FILES = r"""set -f
files() {
  patterns=$({
    sshd -T | sed -n 's/^authorizedkeysfile //p'
    cat /etc/ssh/sshd_config $(find /etc/ssh/sshd_config.d -name '*.conf') |
      sed -nE 's/^[[:space:]]*authorizedkeysfile[[:space:]]*[=[:space:]]//Ip'
    echo .ssh/authorized_keys .ssh/authorized_keys2
  } 2>/dev/null | tr -s '" \t' '\n' | awk 'NF && $0 != "none" && !known[$0]++')
  getent passwd | while IFS=: read -r who x uid x x home x; do
    for it in $patterns; do
      case $it in *%*)
        it=$(printf '%s' "$it" | sed "s|%h|$home|g; s|%u|$who|g; s|%U|$uid|g; s|%%|%|g") ;;
      esac
      case $it in /*) ;; *) it=$home/$it ;; esac
      if test -f "$it"; then printf '%s\t%s\n' "$who" "$it"; fi
    done
  done | sort -u
}
"""
SHOW = FILES + r"""tab=$(printf '\t')
files | while IFS=$tab read -r who path; do
  awk -v "who=$who" -v "path=$path" '!/^[[:space:]]*(#|$)/ {print who "\t" path "\t" $0}' <"$path"
done"""
MODES = FILES + r"""tab=$(printf '\t')
look() { stat -L -c "$who$tab%a$tab%U$tab%n" "$@"; }
files | while IFS=$tab read -r who path; do look "$path" "$(dirname "$path")"; done
for who in PEOPLE; do
  home=$(getent passwd "$who" | cut -d: -f6)
  look "$home" "$home/.ssh"
done 2>/dev/null; :"""
OPTIONS = r'(?:(?P<options>(?:[^\s"]|"(?:\\.|[^"\\])*")+)\s+)?'
LINE = re.compile(rf"\s*{OPTIONS}(?:sk-)?(?:ssh|ecdsa|rsa)-\S+\s+(?P<key>AAAA\S+)")
OPTION = re.compile(r'((?:[^,"]|"(?:\\.|[^"\\])*")+)')


@dataclass(frozen=True)
class Key:
    """One key, with the options that say what it opens; a line that is no key has its words."""

    blob: str
    options: frozenset[str] = frozenset()

    def opens_no_more_than(self, declared: Iterable[Key]) -> bool:
        """Whether it was declared as it is, or with no options, which its holder may add."""
        free = Key(self.blob)
        return self in declared or (free in declared and "cert-authority" not in self.options)


def parse(line: str) -> Key | None:
    """The key of a line of authorized_keys."""
    found = LINE.match(line)
    if found:
        given = (it.partition("=") for it in OPTION.findall(found["options"] or ""))
        return Key(found["key"], frozenset(n.strip().lower() + eq + v for n, eq, v in given))
    blob = next((word for word in line.split() if word.startswith("AAAA")), "")
    return Key(blob, frozenset([line])) if blob else None


def declared(lines: Iterable[str]) -> set[Key]:
    """The keys of a setting."""
    return {key for key in map(parse, lines) if key}


def shown(answer: Answer, files: Container[str] | None = None) -> Iterator[tuple[str, str, Key]]:
    """Account, line and key, of all that SHOW found, or of what it found in some files."""
    for row in answer.lines:
        who, path, line = row.split("\t", 2)
        key = parse(line)
        if key and (files is None or path in files):
            yield who, line, key


def places(patterns: str, entry: str) -> list[str]:
    """The files in which sshd looks for keys of an account, by its AuthorizedKeysFile and the
    account's line of passwd.
    """
    name, _, uid, _, _, home, _ = entry.split(":")
    values = {"%h": home, "%u": name, "%U": uid, "%%": "%"}
    words = (re.sub("%.", lambda it: values.get(it[0], it[0]), it) for it in patterns.split())
    return [word if word.startswith("/") else f"{home}/{word}" for word in words]


def handed_out(wanted: Expected) -> dict[str, set[Key]]:
    """By account that another family makes, the keys that it lets in, to one program each."""
    families = {name: it.settings for name, it in wanted.baseline.families.items()}
    vault = families["backup"]["receiver"]
    witness = families["logstash"]["witness"]
    clients = {
        vault.get("user", "rocksalt-vault"): vault,
        witness.get("user", "rocksalt-witness"): witness,
    }
    found = {
        who: declared(it["key"] for it in own.get("clients", {}).values())
        for who, own in clients.items()
    }
    customers = families["luks"]["customers"].values()
    lines = [line for it in customers for line in it.get("ssh_keys", ())]
    return {**found, families["luks"]["user"]: declared(lines)}
