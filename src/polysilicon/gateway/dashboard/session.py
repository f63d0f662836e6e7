"""Who reads the dashboard: a key in a cookie that no script can read, and forms of our own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import Response

COOKIE = "polysilicon_key"
MOST_KEY = 512
_LIFE_S = 12 * 3600


def cookie_key(headers: Headers) -> str | None:
    """Return the key in the cookie, as the value of an Authorization header."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return f"Bearer {found.value}" if found is not None and found.value else None


def remember(response: Response, key: str, *, secure: bool) -> None:
    """Put a key into the cookie: no script reads it, and no other site's request carries it."""
    response.set_cookie(
        COOKIE, key, max_age=_LIFE_S, httponly=True, samesite="strict", secure=secure
    )


def forget(response: Response, *, secure: bool) -> None:
    """Take the key out of the cookie."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)


class Forms:
    """Tokens that forms must bring back, so that no page but ours can send one.

    Args:
        secret: random bytes that nobody else knows; new with each start.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secrets.token_bytes(32) if secret is None else secret

    def token(self, reader: str) -> str:
        """Return the token of a reader; the empty name is whoever has not logged in yet."""
        return hmac.new(self._secret, reader.encode(), hashlib.sha256).hexdigest()

    def ours(self, token: str, reader: str) -> bool:
        """Tell whether a form is one that this reader got from us."""
        return hmac.compare_digest(token.encode(), self.token(reader).encode())
