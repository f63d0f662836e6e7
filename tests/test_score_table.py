"""The page of the accelerator law shows the scores that its fit wrote."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_page_and_scores_agree():
    spec = importlib.util.spec_from_file_location("score_table", ROOT / "tools" / "score_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "cost_accelerators.md").read_text(encoding="utf-8")
    assert module.page_with(text) == text
    assert "| processor | all | 1116 |" in module.table()
