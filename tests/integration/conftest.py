"""A real local cluster for each test."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from tests.real_cluster import SPEC, RealCluster, bring_up


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State and runtime folders of this test alone; the runtime one is short, for the sake of its sockets."""
    if not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("no slurmctld on this machine")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HPCLI_RUNTIME_DIR", f"/tmp/hpcli-test-{os.getpid()}")
    return tmp_path


@pytest.fixture
async def cluster(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[RealCluster]:
    """Five nodes unless the test asks for another number or for another spec."""
    marker = request.node.get_closest_marker("cluster")
    options = dict(marker.kwargs) if marker else {}
    text = options.get("spec") or SPEC.format(name="it", nodes=options.get("nodes", 5))
    try:
        yield await bring_up(text, home)
    finally:
        remove(Layout.of("it"))
