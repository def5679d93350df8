"""The lab: real Debian hosts with systemd as PID 1, for tests and to play with. See docs/lab.md."""

from .host import Host, SaltResult
from .lab import Lab
from .system import LabError
from .vm import Machine

__all__ = ["Host", "Lab", "LabError", "Machine", "SaltResult"]
