"""Addresses of PostgreSQL databases, and how to speak of them without their passwords."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from polysilicon.errors import InputError

_SECRETS = ("password", "sslpassword")
_DEFAULTS: dict[str, object] = {
    "application_name": "polysilicon",
    "connect_timeout": 10,
    # A server that vanished without a word is given up after half a minute.
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 15,
}


class Address:
    """An address, `postgresql://user:password@host:port/database?…`, taken apart.

    Attributes:
        public: the address as anyone may see it.
        conninfo: what libpq connects with; it holds the password.

    Raises:
        InputError: it is no such address; it is not repeated, as it may hold a password.
    """

    def __init__(self, text: str) -> None:
        mend = "expected postgresql://user@host:port/database"
        if not text.startswith(("postgresql://", "postgres://")):
            raise InputError("this is not the address of a PostgreSQL database", mend=mend)
        try:
            parts = conninfo_to_dict(text)
        except psycopg.Error:
            # Its text may quote the address, and no cause is kept for the same reason.
            raise InputError("the address of the journal is malformed", mend=mend) from None
        self._secrets = [str(parts[name]) for name in _SECRETS if parts.get(name)]
        shown = {k: str(v) for k, v in parts.items() if k not in _SECRETS and v is not None}
        database = quote(shown.pop("dbname", ""), safe="")
        self.public = f"postgresql:///{database}" + (f"?{urlencode(shown)}" if shown else "")
        self.conninfo = make_conninfo(**{**_DEFAULTS, **parts})

    def safe(self, text: object) -> str:
        """Return a text as one line without the passwords."""
        line = " ".join(str(text).split())
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line
