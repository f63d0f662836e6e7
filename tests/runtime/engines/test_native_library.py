"""How kernels of another library are loaded."""

from __future__ import annotations

import os

import pytest

from polysilicon.runtime.engines.native import library


def test_variables_are_set_while_something_is_loaded_and_nobody_s_own_are_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OWN", "mine")
    monkeypatch.delenv("OTHER", raising=False)
    with (
        pytest.raises(OSError, match="no such"),
        library._environment({"OWN": "theirs", "OTHER": "1"}),
    ):
        assert (os.environ["OWN"], os.environ["OTHER"]) == ("mine", "1")
        raise OSError("no such library")
    assert os.environ["OWN"] == "mine"
    assert "OTHER" not in os.environ
