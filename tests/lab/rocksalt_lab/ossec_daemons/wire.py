"""How the stand-in's agent and server speak: a datagram of JSON, signed by the agent's key."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass

START, ALIVE, EVENT = "start", "alive", "event"
ACK, ORDER, FILE = "ack", "order", "file"


@dataclass(frozen=True)
class Key:
    """A line of client.keys: ``1024 web1 any SECRET``."""

    number: str
    name: str
    secret: str

    @classmethod
    def of(cls, text: str) -> Key | None:
        """The first one of a file."""
        for line in text.splitlines():
            words = line.split()
            if line[:1] not in ("", "#", " ") and len(words) == 4:
                return cls(words[0], words[1], words[3])
        return None

    @property
    def line(self) -> str:
        return f"{self.number} {self.name} any {self.secret}"


@dataclass(frozen=True)
class Message:
    """What one says to the other; ``name`` is that of a file."""

    kind: str
    text: str = ""
    name: str = ""

    def packed(self, key: Key) -> bytes:
        """As it is sent."""
        body = json.dumps([self.kind, self.text, self.name])
        return json.dumps({"id": key.number, "body": body, "mac": _mac(key, body)}).encode()


def sender(data: bytes) -> str:
    """The number of the agent that it is from, or to."""
    try:
        return str(json.loads(data)["id"])
    except (ValueError, KeyError, TypeError):
        return ""


def unpacked(data: bytes, key: Key) -> Message | None:
    """What was said; None where the key is another one."""
    try:
        found = json.loads(data)
        body = str(found["body"])
        if not hmac.compare_digest(found["mac"], _mac(key, body)):
            return None
        return Message(*json.loads(body))
    except (ValueError, KeyError, TypeError):
        return None


def _mac(key: Key, body: str) -> str:
    return hmac.new(key.secret.encode(), body.encode(), hashlib.sha256).hexdigest()
