"""Journals of the rig's tests stay in the test's own folder."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def journals(tmp_path, monkeypatch):
    """Return the folder that journals are kept in."""
    folder = tmp_path / "journals"
    monkeypatch.setenv("ATTNPROBE_STATE", str(folder))
    return folder
