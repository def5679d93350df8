"""What an S3 server or boto3 complains about, worded for the one who has to do something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rocksalt.backup import config
from rocksalt.backup.errors import Unreachable, VaultError
from rocksalt.backup.vaults import clocks

DENIED = {
    "AccessDenied", "AllAccessDisabled", "ExpiredToken", "Forbidden", "InvalidAccessKeyId",
    "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "403",
}  # fmt: skip
EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
ABSENT = {"NoSuchKey", "NoSuchVersion", "404"}
UNKNOWN = {"NotImplemented", "501"}
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge", "507"}
_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_NO_KEYS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
_FOREIGN = ("botocore", "boto3", "urllib3")


class NoLock(Exception):
    """The bucket has no configuration of Object Lock."""


def code(error: Exception) -> str:
    """What the server calls the error; empty where no server answered."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _response(error: Exception) -> dict[str, Any]:
    found = getattr(error, "response", None)
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def explained(vault: str, what: str, absent: bool = False) -> Iterator[None]:
    """Words what goes wrong in dealing with ``vault``, by name, about ``what``; with ``absent`` an
    object that is not there is FileNotFoundError.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] not in _FOREIGN:
            raise
        if code(error) == _NO_LOCK:
            raise NoLock from None
        if absent and code(error) in ABSENT:
            raise FileNotFoundError(f"the vault {vault} has no {what}") from None
        raise _worded(vault, what, error) from None


def _worded(vault: str, what: str, error: Exception) -> VaultError:
    found, kind = code(error), type(error).__name__
    metadata = _response(error).get("ResponseMetadata", {})
    text = f"the vault {vault} failed, {what}: {error}"
    if found in DENIED or kind in _NO_KEYS:
        keys = f"{config.TOP}:s3_credentials:{vault}"
        return VaultError(f"{text}: see {keys} and what the bucket lets them do")
    if found in _SKEWED:
        return VaultError(f"{text}: {clocks.REMEDY}")
    if found in _FULL:
        return VaultError(f"{text}: make room there")
    if found and metadata.get("HTTPStatusCode", 0) < 500:
        return VaultError(f"{text}: see {config.TOP}:vaults:{vault}")
    if kind == "SSLError":
        return VaultError(f"{text}: see {config.TOP}:vaults:{vault}:ca")
    return Unreachable(f"{text}: the next run tries again")
