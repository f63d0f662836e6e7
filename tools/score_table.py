"""Write the table of held-out scores into docs/cost_accelerators.md from the fit's own table.

    python tools/score_table.py

`make fit` calls it; a test checks that page and table agree.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCORES = ROOT / "src" / "polysilicon" / "cost" / "data" / "accelerator_scores.csv"
PAGE = ROOT / "docs" / "cost_accelerators.md"
HEAD = (
    "| held out | which | rows | TPOT median | TPOT mean | TTFT median | TTFT mean |"
    " in band (TPOT, TTFT) |"
)
RULE = "|---|---|---:|---:|---:|---:|---:|---:|"


def table() -> str:
    """Return the table in Markdown."""
    groups: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    with SCORES.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            groups.setdefault((row["held_out"], row["group"]), {})[row["metric"]] = row
    rows = [HEAD, RULE]
    for (by, group), metrics in groups.items():
        tpot, ttft = metrics["tpot_s"], metrics["ttft_s"]
        errors = [
            f"{float(one[name]):.1%}".replace("%", " %")
            for one in (tpot, ttft)
            for name in ("median_error", "mean_error")
        ]
        inside = f"{float(tpot['in_band']):.0%}, {float(ttft['in_band']):.0%}"
        cells = (by, group, tpot["rows"], *errors, inside)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def page_with(text: str) -> str:
    """Return the page with the table in the place of the one that it has."""
    found = re.search(r"\| held out \|.*?\n(?=\n)", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"{PAGE}: no table of scores")
    return text[: found.start()] + table() + "\n" + text[found.end() :]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
