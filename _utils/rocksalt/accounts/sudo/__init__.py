"""sudo and su: ``sudoers`` is the language, ``reading`` the look at the host, ``checks`` the
comparison, ``enforce`` the change.
"""

from __future__ import annotations

from rocksalt.accounts.database import Database
from rocksalt.accounts.sudo import reading
from rocksalt.accounts.sudo.checks import CHECKS, render
from rocksalt.accounts.sudo.enforce import clean, fix, leftovers
from rocksalt.accounts.sudo.reading import Reading
from rocksalt.host import Host

__all__ = ["CHECKS", "Reading", "clean", "fix", "leftovers", "read", "render"]


def read(host: Host, people: Database) -> Reading:
    """Looks at the host."""
    del people  # groups and members are compared later
    return reading.read(host)
