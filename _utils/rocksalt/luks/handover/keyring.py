"""Short-lived secrets in the kernel: of root alone, in no file, never swapped, and ended by the
kernel itself, whether or not anybody comes back for them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from rocksalt.errors import Refused

_CALLS = {
    "x86_64": (248, 250),
    "aarch64": (217, 219),
    "riscv64": (217, 219),
    "ppc64le": (269, 271),
    "s390x": (278, 280),
}
"""Numbers of the system calls add_key and keyctl, for which libc has no functions."""
_LINK, _SEARCH, _READ, _SET_TIMEOUT, _INVALIDATE = 8, 10, 11, 15, 21
_THREAD, _USER = -1, -4
_KIND = b"user"
_GONE = {errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED}
_LARGEST = 4096


def keep(name: str, secret: bytes, seconds: int) -> None:
    """Keeps a secret for so many seconds, in place of one that has this name."""
    take(name)
    number = _ours("add_key", _KIND, name.encode(), secret, len(secret), _USER)
    try:
        _ours("keyctl", _SET_TIMEOUT, number, seconds)
    except Refused:
        _ours("keyctl", _INVALIDATE, number)
        raise


def take(name: str) -> bytes | None:
    """The secret of this name, which is gone from now on; None if there is none any more."""
    _ours("keyctl", _LINK, _USER, _THREAD)  # who has it in a keyring of its own may read it
    number = _call("keyctl", _SEARCH, _USER, _KIND, name.encode(), 0)
    if number is None:
        return None
    buffer = ctypes.create_string_buffer(_LARGEST)
    try:
        size = _call("keyctl", _READ, number, buffer, len(buffer))
        _call("keyctl", _INVALIDATE, number)
        return None if size is None else buffer.raw[:size]
    finally:
        ctypes.memset(buffer, 0, len(buffer))


def _ours(call: str, *arguments: object) -> int:
    """What has to be there."""
    found = _call(call, *arguments)
    if found is None:
        raise Refused("the kernel's keyring lost a secret while it was put there: try again")
    return found


def _call(call: str, *arguments: object) -> int | None:
    """The answer of the kernel; None if the key has ended."""
    machine = os.uname().machine
    if machine not in _CALLS or sys.maxsize < 1 << 32:
        raise Refused(f"how to reach the kernel's keyring is not known for {machine}")
    number = _CALLS[machine][call == "keyctl"]
    words = [ctypes.c_long(it) if isinstance(it, int) else it for it in arguments]
    found = _LIBRARY.syscall(ctypes.c_long(number), *words)
    if found >= 0:
        return int(found)
    if ctypes.get_errno() in _GONE:
        return None
    raise Refused(f"the kernel's keyring cannot be used: {os.strerror(ctypes.get_errno())}")


_LIBRARY = ctypes.CDLL(None, use_errno=True)
_LIBRARY.syscall.restype = ctypes.c_long
