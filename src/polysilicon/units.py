"""Numbers as people read them: seconds, dollars, bytes, counts, to three significant digits."""

from __future__ import annotations

SECONDS_PER_HOUR = 3600.0


def _significant(value: float, digits: int = 3) -> str:
    """Format `value` to `digits` significant digits, without exponent or trailing zeros."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{float(text):.12f}" if abs(value) < 1 else f"{float(text):.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    """Format `value` with the unit of the first step that it reaches, else the last."""
    for size, unit in steps:
        if abs(value) >= size:
            return f"{_significant(value / size)}{unit}"
    size, unit = steps[-1]
    return f"{_significant(value / size)}{unit}"


def seconds(value: float) -> str:
    """Format seconds: `310 µs`, `4.2 s`, `2 min`, `3.5 h`."""
    if 120.0 <= abs(value) < SECONDS_PER_HOUR:
        return f"{_significant(value / 60.0)} min"
    steps = ((86400.0, " d"), (SECONDS_PER_HOUR, " h"), (1.0, " s"), (1e-3, " ms"), (1e-6, " µs"))
    return _scaled(value, steps)


def usd(value: float) -> str:
    """Format dollars: two decimals from $1 up, three significant digits below."""
    sign = "-" if value < 0 else ""
    size = abs(value)
    return f"{sign}${size:,.2f}" if size >= 1 else f"{sign}${_significant(size)}"


def count(value: float) -> str:
    """Format a count: `812`, `12.4k`, `3.1M`."""
    if 1e3 <= abs(value) < 1e4:
        return f"{value:,.0f}"
    return _scaled(value, ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")))


def size_bytes(value: float) -> str:
    """Format bytes with decimal prefixes: `98.4 MB`."""
    return _scaled(value, ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")))


def energy(value: float) -> str:
    """Format joules: `320 J`, `4.1 MJ`."""
    return _scaled(value, ((1e12, " TJ"), (1e9, " GJ"), (1e6, " MJ"), (1e3, " kJ"), (1.0, " J")))


def share(value: float) -> str:
    """Format a fraction as per cent: `39 %`, `0.4 %`."""
    return f"{value * 100:.0f} %" if value >= 0.0995 or value == 0 else f"{value * 100:.1f} %"
