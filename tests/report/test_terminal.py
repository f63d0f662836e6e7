from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console, RenderableType
from synthetic_run import ELSEWHERE, make_run

from polysilicon.report import terminal
from polysilicon.report.summary import summarise
from polysilicon.workload.describe import describe


def shown(page: RenderableType, width: int = 120) -> str:
    console = Console(width=width, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(page)
    return capture.get()


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, "    "), (1.0, "████"), (0.5, "██  "), (0.001, "▏   "), (2.0, "████"), (0.28, "█▏  ")],
)
def test_bars(fraction: float, expected: str) -> None:
    assert terminal.bar(fraction, 4).plain == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 8], " ▁█"), ([0.0, 1e-9, 1.0], " ▁█"), ([], ""), ([0, 0], "  "), ([3, 2, 1], "█▅▃")],
)
def test_sparks(values: list[float], expected: str) -> None:
    assert terminal.spark(values).plain == expected


def test_a_run_page(tmp_path: Path) -> None:
    run, _, steps = make_run(tmp_path / "demo")
    summary = summarise(run, ELSEWHERE)
    page = shown(terminal.run_page(summary, describe(run.workload()).groups, ELSEWHERE))
    assert f"48 tasks ({summary.ok} ok) · {len(steps)} steps" in page
    reuse = next(iter(summary.prefix_reuse.values()))
    assert f"prefix cache: {reuse:.0%}".replace("%", "") in page.replace("\n", " ")
    for text in ("Agents", "Steps by agent and kind", "The same work elsewhere", "tasks/min"):
        assert text in page
    rows = [line for line in page.splitlines() if "aws/" in line or "gcp/" in line]
    assert rows[0].startswith("aws/m9g.4xlarge")
    assert rows[-1].startswith("aws/p5.48xlarge")
    assert "3 s to 12.2 s" in rows[0]
    assert "roofline" in rows[0]
    unpriced = next(line for line in page.splitlines() if "azure/unpriced" in line)
    assert "$" not in unpriced


def test_prices_that_are_missing_are_marked(tmp_path: Path) -> None:
    run, _, steps = make_run(tmp_path / "demo")
    run.write_steps([msgspec.structs.replace(steps[0], cost_usd=None), *steps[1:]])
    page = shown(terminal.run_page(summarise(run), describe(run.workload()).groups, []))
    assert "* some steps have no price" in page
    assert "elsewhere" not in page


def test_what_is_not_finite_is_blank() -> None:
    nan, inf = float("nan"), float("inf")
    assert terminal.bar(nan, 4).plain == "    "
    assert terminal.spark([nan, 4.0, inf, 8.0]).plain == " ▄ █"
    for form in (terminal.seconds, terminal.usd, terminal.share):
        assert form(nan) == form(inf) == terminal.BLANK
