"""What the door looks at of a request of WSGI."""

from __future__ import annotations

import re
from typing import Any

from .errors import Refused


class Request:
    """A request, with nothing but what is here."""

    def __init__(self, environ: dict[str, Any]):
        self._environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ.get("PATH_INFO", "")
        self.source: str = environ.get("REMOTE_ADDR", "")
        self.certificate: str = environ.get("rocksalt.certificate", "")
        self.id: str = environ.get("HTTP_X_AUTH_TOKEN", "")
        self.kind: str = environ.get("CONTENT_TYPE", "")

    def body(self, most: int) -> bytes:
        """The whole body, whose length has to be told beforehand."""
        length = self._environ.get("CONTENT_LENGTH", "")
        if "HTTP_TRANSFER_ENCODING" in self._environ or not length:
            raise Refused(411, "the request has to say how long its body is")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise Refused(400, "the Content-Length is no number")
        if int(length) > most:
            raise Refused(413, f"the body is longer than {most} bytes")
        body: bytes = self._environ["wsgi.input"].read(int(length))
        if len(body) != int(length):
            raise Refused(400, "the body ended early")
        return body
