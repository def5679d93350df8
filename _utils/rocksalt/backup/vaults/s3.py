"""A vault in a bucket with Object Lock, whose versions nobody can remove before their time.

A put on an existing name makes a new version and a deletion a marker, so only the version of a name
that was put first counts. The master's credentials need ``s3:PutObject`` and
``s3:GetBucketObjectLockConfiguration``, a reader's ``s3:ListBucketVersions`` and
``s3:GetObjectVersion``.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup.errors import VaultError
from rocksalt.backup.vaults import Settings, Stored, Vault, clocks
from rocksalt.backup.vaults.content import CHUNK, content, pieces
from rocksalt.backup.vaults.file import taken, uploadable
from rocksalt.backup.vaults.s3_errors import (
    ABSENT,
    DENIED,
    EXISTS,
    UNKNOWN,
    NoLock,
    code,
    explained,
)

TIMEOUT = 60
"""Seconds without progress after which a request is given up."""
PART = 1 << 24
"""Bytes of a request; a larger object goes in parts."""
_PARTS = 9000
_NEEDED = (
    "a vault needs a bucket with versions and Object Lock, COMPLIANCE by default for some days"
)


class S3Vault(Vault):
    """A vault of the type s3; ``settings`` is its entry below ``vaults``, ``credentials`` has
    ``access_key`` and ``secret_key``, or is empty for what boto3 finds by itself.
    """

    def __init__(
        self, name: str, settings: Settings, credentials: Mapping[str, str], instance: str
    ):
        self.name, self._settings, self._credentials = name, settings, credentials
        self._who, self._bucket = f"the vault {name}", settings["bucket"]
        prefix = settings.get("prefix", "").strip("/")
        self._prefix = f"{prefix}/{instance}/" if prefix else f"{instance}/"
        self._made: Any = None
        self._good = False
        self._versions: dict[str, Stored] = {}

    now = staticmethod(clocks.now)

    def client(self) -> Any:
        """The client of boto3, which takes a while to make."""
        if self._made is None:
            try:
                boto3 = importlib.import_module("boto3")
                own = importlib.import_module("botocore.config").Config
            except ImportError:
                raise VaultError(
                    f"{self._who} needs boto3, which this Python lacks: install python3-boto3"
                ) from None
            timeout = self._settings.get("timeout", TIMEOUT)
            keys = self._credentials
            with explained(self.name, "its settings"):
                self._made = boto3.client(
                    "s3",
                    endpoint_url=self._settings.get("endpoint"),
                    region_name=self._settings.get("region", "us-east-1"),
                    verify=self._settings.get("ca"),
                    aws_access_key_id=keys.get("access_key"),
                    aws_secret_access_key=keys.get("secret_key"),
                    config=own(
                        connect_timeout=timeout,
                        read_timeout=timeout,
                        retries={"mode": "standard", "total_max_attempts": 2},
                        s3={"addressing_style": "path" if "endpoint" in self._settings else "auto"},
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                    ),
                )
        return self._made

    def names(self) -> dict[str, Stored]:
        self._versions = self._listed(self._prefix)
        return dict(self._versions)

    def _listed(self, prefix: str) -> dict[str, Stored]:
        """The version of each name that was put first, with what was put there later. A run that
        could not see that it had put an object already puts the same again, which is no other.
        """
        versions: dict[str, list[tuple[float, str, Stored]]] = {}
        pages = self.client().get_paginator("list_object_versions")
        with explained(self.name, "its list of objects"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for version in page.get("Versions", ()):
                    name = version["Key"].removeprefix(self._prefix)
                    time = version["LastModified"].timestamp()
                    stored = Stored(version["Size"], time, version["VersionId"])
                    versions.setdefault(name, []).append((time, version.get("ETag", ""), stored))
        return {name: _first(found) for name, found in versions.items()}

    def open(self, name: str) -> BinaryIO:
        if name not in self._versions:
            self._versions.update(self._listed(self._prefix + name))
        if name not in self._versions:
            raise FileNotFoundError(f"{self._who} has no {name}")
        with explained(self.name, name, absent=True):
            body = self.client().get_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                VersionId=self._versions[name].version,
            )["Body"]

        def read(most: int) -> bytes:
            with explained(self.name, name):
                return bytes(body.read(most))

        return content(read, body.close)

    def put(self, name: str, source: Path, sha256: str) -> None:
        if not uploadable(name):
            raise VaultError(f"{self._who} takes no object named {name!r}")
        self._check()
        client, parts = self.client(), _parts(source)
        data = next(parts)
        following = next(parts, None)
        target = {"Bucket": self._bucket, "Key": self._prefix + name}
        with explained(self.name, name):
            if following is None:
                self._unchanged(source, hashlib.sha256(data), sha256)
                total = _sum(data)
                answer = self._new(
                    name,
                    total,
                    partial(client.put_object, Body=data, ChecksumSHA256=total, **target),
                )
                self._confirm(name, answer, data)
            else:
                upload = client.create_multipart_upload(ChecksumAlgorithm="SHA256", **target)
                target["UploadId"] = upload["UploadId"]
                try:
                    self._put_parts(name, chain([data, following], parts), source, sha256, target)
                finally:
                    # Nothing if it was completed; otherwise parts would lie there, and cost.
                    with contextlib.suppress(Exception):
                        client.abort_multipart_upload(**target)

    def _put_parts(
        self, name: str, parts: Iterable[bytes], source: Path, sha256: str, target: dict[str, str]
    ) -> None:
        hashed, sums, done = hashlib.sha256(), b"", []
        for number, data in enumerate(parts, 1):
            hashed.update(data)
            total = _sum(data)
            answer = self.client().upload_part(
                PartNumber=number, Body=data, ChecksumSHA256=total, **target
            )
            self._confirm(name, answer, data)
            sums += base64.b64decode(total)
            done.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": total})
        self._unchanged(source, hashed, sha256)
        complete = partial(
            self.client().complete_multipart_upload, MultipartUpload={"Parts": done}, **target
        )
        answer = self._new(name, f"{_sum(sums)}-{len(done)}", complete)

    def _new(self, name: str, total: str, request: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """What the server answers to a request that makes a new object, and no new version of one.

        Where the name is taken and these credentials may not see by what, there will be another
        version, and the first one goes on to count.
        """
        answer: dict[str, Any] | None = None
        try:
            answer = request(IfNoneMatch="*")
        except Exception as error:
            if code(error) in EXISTS:
                answer = self._there(name, total)
            elif code(error) not in UNKNOWN:
                raise
        answer = answer or request()
        if answer.get("VersionId", "null") == "null":
            raise VaultError(f"{self._who} keeps no versions: {_NEEDED}")
        if answer.get("ChecksumSHA256", total) != total:
            raise VaultError(f"{self._who} stored something else than it was sent: {name}")
        return answer

    def _there(self, name: str, total: str) -> dict[str, Any] | None:
        """The object of a name that is taken, if it is the same; None if it cannot be seen."""
        key = self._prefix + name
        try:
            head = self.client().head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
        except Exception as error:
            if code(error) in DENIED | ABSENT:
                return None
            raise
        if head.get("ChecksumSHA256") != total:
            raise taken(self._who, name)
        return dict(head)

    def _confirm(self, name: str, answer: Mapping[str, Any], data: bytes) -> None:
        """That the server says of what it stored what is true of what it was sent."""
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if answer.get("ChecksumSHA256") != _sum(data) and answer["ETag"].strip('"') != etag:
            raise VaultError(f"{self._who} does not confirm the checksum of {name}")

    def _unchanged(self, source: Path, hashed: Any, sha256: str) -> None:
        if hashed.hexdigest() != sha256:
            raise VaultError(f"{source} has changed since it was made, and went nowhere")

    def faults(self) -> list[str]:
        lock = self._lock()
        mode = lock.get("Rule", {}).get("DefaultRetention", {}).get("Mode")
        found = ""
        if lock.get("ObjectLockEnabled") != "Enabled":
            found = "has no Object Lock"
        elif mode is None:
            found = "has no default retention, so nothing is locked"
        elif mode != "COMPLIANCE":
            found = f"has retention that some may overrule, {mode}"
        return [f"{self._who} {found}: {_NEEDED}"] if found else []

    def _lock(self) -> dict[str, Any]:
        """The bucket's Object Lock, which includes versions; the clocks are compared on the way."""
        try:
            with explained(self.name, f"the settings of the bucket {self._bucket}"):
                answer = self.client().get_object_lock_configuration(Bucket=self._bucket)
        except NoLock:
            return {}
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date:
            clocks.compare(self._who, email.utils.parsedate_to_datetime(date), self.now())
        return dict(answer["ObjectLockConfiguration"])

    def _check(self) -> None:
        """Before the first object of a run."""
        if not self._good:
            found = self.faults()
            if found:
                raise VaultError("; ".join(found))
            self._good = True


def _first(versions: list[tuple[float, str, Stored]]) -> Stored:
    """Of the versions of a name, by time, ETag and as they are, the one that was put first; of one
    second the one that is listed last, the newest being first.
    """
    _, etag, first = min(reversed(versions), key=lambda it: it[0])
    others = [
        (time, it.version)
        for time, tag, it in versions
        if it.version != first.version and not (tag and tag == etag)
    ]
    time, later = max(others, default=(0.0, ""))
    return replace(first, later=later, replaced=time)


def _parts(source: Path) -> Iterator[bytes]:
    """The content in the parts in which it is sent; at least one."""
    try:
        size = max(PART, -(-source.stat().st_size // _PARTS))
    except OSError as error:
        raise VaultError(f"{source} cannot be read: {error.strerror}") from None
    held: list[bytes] = []
    for piece in pieces(source):
        held.append(piece)
        if len(held) * CHUNK >= size:
            yield b"".join(held)
            held = []
    if held or source.stat().st_size == 0:
        yield b"".join(held)


def _sum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
