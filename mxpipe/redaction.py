"""Takes credentials out of text before it is stored or logged.

What counts: `scheme://user:password@`, any user part of an http address (a token may stand there), and query
parameters whose names say that they are secret.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

_USER = re.compile(r"(?:(?<=http://)|(?<=https://))[^\s/@]+@|(?<=://)[^\s/:@]*:[^\s/]*@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"([?&;](?:[\w.-]*(?:password|passwd|pwd|secret|token|credential|signature|api[_-]?key|access[_-]?key)"
    r"|sig)=)[^&;\s'\"#]+",
    re.IGNORECASE,
)


def credentials(text: str) -> set[str]:
    """What :func:`redact` would take out: passwords and tokens, as they stand there and unquoted.

    Example:
        >>> sorted(credentials("postgresql://me:a%40b@db/mlflow?token=xyz"))
        ['a%40b', 'a@b', 'xyz']
    """
    if "://" not in text:
        return set()
    found = {match.group().removesuffix("@").partition(":") for match in _USER.finditer(text)}
    secrets = {password or user for user, _, password in found}
    secrets |= {match.group().partition("=")[2] for match in _PARAMETER.finditer(text)}
    return {form for secret in secrets for form in (secret, unquote(secret)) if form}


def redact(text: str) -> str:
    """The text with `***` in place of credentials inside of addresses.

    Example:
        >>> redact("connecting to postgresql://me:hunter2@db/mlflow?sslpassword=abc failed")
        'connecting to postgresql://***@db/mlflow?sslpassword=*** failed'
        >>> redact("abfs://container@account.dfs.core.windows.net/rows")
        'abfs://container@account.dfs.core.windows.net/rows'
    """
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def holds_credentials(text: str) -> bool:
    """Whether :func:`redact` would take something out; what it left does not count.

    Example:
        >>> holds_credentials("s3://key:secret@bucket/rows"), holds_credentials("s3://bucket/rows")
        (True, False)
    """
    return redact(text) != text


def redact_json(value: Any) -> Any:
    """JSON values with every text in them redacted; keys stay as they are."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redact_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_json(item) for item in value]
    return value


class RedactingFormatter(logging.Formatter):
    """A formatter whose lines, tracebacks included, hold no credentials."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return redact(super().format(record))


def log_without_credentials() -> None:
    """Let a process of its own log to its standard error, warnings included."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
