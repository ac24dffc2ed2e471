"""Where e-mail to customers goes: one variable becomes Django's mail settings."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TIMEOUT_SECONDS = 10
"""For each exchange with the mail server."""
_BACKENDS = "django.core.mail.backends"
_SMTP: Mapping[str, tuple[int, str]] = {
    "smtp": (25, ""),
    "smtp+starttls": (587, "EMAIL_USE_TLS"),
    "smtps": (465, "EMAIL_USE_SSL"),
}


def mail_settings(*, url: str, home: Path) -> dict[str, Any]:
    """Django's settings for `url`; without one, messages become files under `home`/mail.

    Raises ValueError, whose message says what is accepted.
    """
    if not url:
        return {
            "EMAIL_BACKEND": f"{_BACKENDS}.filebased.EmailBackend",
            "EMAIL_FILE_PATH": home / "mail",
        }
    if url == "console:":
        return {"EMAIL_BACKEND": f"{_BACKENDS}.console.EmailBackend"}
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in _SMTP or not host or parts.path.strip("/") or parts.query:
        raise ValueError(
            "use smtp://user:password@host:25, smtp+starttls://…:587, smtps://…:465, console:, "
            "or nothing for files in the stack's home"
        )
    usual, encryption = _SMTP[parts.scheme]
    settings: dict[str, Any] = {
        "EMAIL_BACKEND": f"{_BACKENDS}.smtp.EmailBackend",
        "EMAIL_HOST": host,
        "EMAIL_PORT": port or usual,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_TIMEOUT": TIMEOUT_SECONDS,
    }
    return {**settings, encryption: True} if encryption else settings


def sender(text: str) -> str:
    """A sender's address, with or without a name before it. Raises ValueError."""
    _, address = parseaddr(text)
    name, _, domain = address.rpartition("@")
    if not name or not domain or any(sign in text for sign in "\r\n"):
        raise ValueError("use an address such as Orders <orders@shop.example>")
    return text
