from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deepfake_training.assess import MANY_SOURCES, told
from deepfake_training.calibrate import fit_calibration
from deepfake_training.card import plot_evaluation, write_card
from deepfake_training.export import Trained, check_parity, metrics_to_dict, write_bundle
from deepfake_training.metrics import FamilyRow, tabulate
from torch import nn

from deepfake import networks
from deepfake.bundle import Applicability, Bundle
from deepfake.errors import ModelError
from deepfake.preprocess import AudioPreprocess, ImagePreprocess, Preprocess
from tests.training.test_metrics import make_records

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Tiny(nn.Module):
    """A network of each kind that exports in a second."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if channels == 3 else nn.Conv1d
        self.picture = channels == 3
        self.first = convolution(channels, 4, 5, stride=4)
        self.last = nn.Linear(4, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.first(batch if self.picture else batch[:, None]))
        return self.last(features.flatten(2).mean(2)).squeeze(1)


PREPROCESSES = [
    ImagePreprocess(side_pixels=32),
    AudioPreprocess(window_seconds=0.5, hop_seconds=0.25),
]


@pytest.mark.parametrize("preprocess", PREPROCESSES, ids=["image", "audio"])
def test_bundle_from_training_to_card(
    preprocess: Preprocess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = 3 if preprocess.kind == "image" else 1
    monkeypatch.setattr(networks, "create", lambda name, **options: Tiny(**options))
    torch.manual_seed(0)
    records = make_records(files=30)
    trained = Trained(
        network=Tiny(channels=channels).eval(),
        network_name="tiny",
        network_options={"channels": channels},
        preprocess=preprocess,
        records=records,
        limits=Applicability(min_side_pixels=16),
        facts={"seed": 0, "tried": ["a", {"b": 0.5}]},
    )
    calibration = fit_calibration(records)
    sources, views = tabulate(records, calibration)
    name = f"{preprocess.kind}-1"
    bundle = write_bundle(
        trained,
        name=name,
        calibration=calibration,
        metrics=metrics_to_dict(sources=sources, views=views),
        folder=tmp_path / name,
    )
    again = Bundle.read(tmp_path / name)
    assert again == bundle
    again.verify()
    assert str(tmp_path).encode() not in (tmp_path / name / "model.onnx").read_bytes()
    text = dict.fromkeys(("intended", "data", "recipe", "failures"), "words")
    families = [FamilyRow("codec", 7, 0.9, 0.1, float("nan"))]
    write_card(
        bundle, sources=sources, views=views, families=families, text=text, command="the command"
    )
    card = (tmp_path / name / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    assert "system0" in card
    assert "the command" in card
    assert "| codec | 7 | 0.900 | 0.100 | – |" in card
    plot_evaluation(records, top_fraction=1.0, folder=tmp_path)
    assert {"roc.png", "reliability.png"} <= {path.name for path in tmp_path.iterdir()}


def test_a_backend_that_differs_is_not_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "create", lambda name, **options: Tiny(**options))
    torch.manual_seed(1)
    records = make_records(files=10)
    trained = Trained(
        Tiny(channels=3).eval(), "tiny", {"channels": 3}, PREPROCESSES[0], records,
        Applicability(), {},
    )  # fmt: skip
    bundle = write_bundle(
        trained,
        name="image-1",
        calibration=fit_calibration(records),
        metrics={},
        folder=tmp_path / "image-1",
    )
    monkeypatch.setattr(networks, "create", lambda name, **options: Shifted(**options))
    with pytest.raises(ModelError, match="torch differs"):
        check_parity(bundle)


class Shifted(Tiny):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return super().forward(batch) + 1


def test_of_many_sources_only_two_views_are_told() -> None:
    records = make_records(files=4)
    rows, _ = tabulate(records, fit_calibration(records))
    assert told(rows) == rows
    one = rows[0]
    many = [
        replace(one, source=f"s{number}", view=view)
        for number in range(MANY_SOURCES + 1)
        for view in ("clean", "web", "noise")
    ]
    assert {row.view for row in told(many)} == {"clean", "web"}
    assert len(told(many)) == 2 * (MANY_SOURCES + 1)
