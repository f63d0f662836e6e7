"""Personal data in text: found by shape, kept where a check digit or a range says so, masked.

Shapes alone would mask order numbers and dates. So an IBAN must have the right check digits and
country format (ISO 13616), a card number a right Luhn digit (ISO/IEC 7812-1), an address four
numbers below 256, and a telephone number a leading + or 0 and 8 to 15 digits (ITU-T E.164).
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

from stdnum import iban, luhn

_EMAIL = re.compile(r"\b[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-zA-Z]{2,24}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w+])\d(?:[ -]?\d){12,18}(?!\w)")
_IP4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IP6 = re.compile(r"(?<![\w:.])[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w+.])(?:\+\d{1,3}(?:[ ./-]?\(?\d{1,5}\)?){2,7}"
    r"|(?<!\d )\(?0\d{1,5}\)?(?:[ /-]\d{2,8}){1,5})(?!\w)"
)
_DATE = re.compile(r"0?\d{1,2}[./-]\d{1,2}[./-]\d{2,4}")
_PHONE_DIGITS = range(8, 16)


def mask(text: str) -> tuple[str, Counter[str]]:
    """Return `text` with personal data replaced by `<KIND>`, and how many of each kind there were.

    Kinds are email, iban, card, ip and phone, looked for in this order.
    """
    counts: Counter[str] = Counter()
    for kind, pattern, check in _RULES:
        text = pattern.sub(_replacement(kind, check, counts), text)
    return text, counts


def _replacement(
    kind: str, check: Callable[[str], int], counts: Counter[str]
) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        length = check(match[0])
        if not length:
            return match[0]
        counts[kind] += 1
        return f"<{kind.upper()}>{match[0][length:]}"

    return replace


def _all(found: str) -> int:
    return len(found)


def _iban(found: str) -> int:
    """Return the length of the IBAN that `found` begins with, or 0: a word may follow it."""
    words = found.split(" ")
    for count in range(len(words), 0, -1):
        head = " ".join(words[:count])
        if iban.is_valid(head):
            return len(head)
    return 0


def _card(found: str) -> int:
    digits = re.sub(r"\D", "", found)
    # All digits equal pass Luhn's test for 0 only, and are never a card.
    return len(found) if luhn.is_valid(digits) and len(set(digits)) > 1 else 0


def _address(found: str) -> int:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return 0
    return 0 if address.is_unspecified else len(found)


def _phone(found: str) -> int:
    digits = sum(c.isdigit() for c in found)
    return len(found) if digits in _PHONE_DIGITS and not _DATE.fullmatch(found) else 0


_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], int]], ...] = (
    ("email", _EMAIL, _all),
    ("iban", _IBAN, _iban),
    ("card", _CARD, _card),
    ("ip", _IP4, _address),
    ("ip", _IP6, _address),
    ("phone", _PHONE, _phone),
)
