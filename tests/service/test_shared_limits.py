"""Rates that several servers count together in a Valkey, and alone while that is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service.store.budgets import Rates
from deepfake_service.store.keys import Allowance

from deepfake.detector import Detector
from deepfake.errors import SettingsError
from deepfake.reasons import Code
from tests.service.serving import EVERYTHING, serviced

fakeredis = pytest.importorskip("fakeredis")
pytest.importorskip("valkey")


@pytest.fixture
def url() -> Iterator[str]:
    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="valkey")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"valkey://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_servers_count_together(detector: Detector, tmp_path: Path, url: str) -> None:
    with serviced(detector, tmp_path, limits_url=url) as client:
        allowance = Allowance(rate="3/minute")
        client.key = client.service.keys.create(
            tenant="shop", scopes=EVERYTHING, allowance=allowance
        )
        identity = client.service.keys.identify(client.key)
        assert identity is not None
        other = Rates(url)
        for left in (2, 0):
            allowed, rate = other.hit(identity)
            assert allowed
            assert rate is not None
            assert rate.left == left
            if left:
                assert client.get("/v1/models").status_code == 200
        refused = client.get("/v1/models")
        assert (refused.status_code, refused.json()["code"]) == (429, Code.RATE_LIMITED)
        assert 0 < int(refused.headers["retry-after"]) <= 60


def test_while_it_is_away_each_counts_for_itself(detector: Detector, tmp_path: Path) -> None:
    with serviced(detector, tmp_path, limits_url="valkey://127.0.0.1:1") as client:
        client.key = client.service.keys.create(
            tenant="shop", scopes=EVERYTHING, allowance=Allowance(rate="2/minute")
        )
        statuses = [client.get("/v1/models").status_code for _ in range(3)]
        assert statuses == [200, 200, 429]


@pytest.mark.parametrize("url", ["nonsense", "unknown://host"])
def test_a_place_that_is_none_is_one_clear_error(url: str) -> None:
    with pytest.raises(SettingsError, match="cannot be kept there"):
        Rates(url)
