"""What the engine makes of logits, to the last bit of what its callers made of them before."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import deepfake
from deepfake.bundle import Calibration
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored, pool_frames
from deepfake.settings import Settings
from tests.bundles import POINTS

CALIBRATION = Calibration(
    slope=0.7, intercept=-0.2, spread=0.1, points=POINTS, top_fraction=0.6, floor=0.01
)
DEAL_IN_NETWORKS = ("engine", "export", "networks", "bundle.py", "preprocess.py")


def logits(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, count).astype(np.float32)


def read(count: int, seed: int = 1) -> Scored:
    return Scored.read(logits(count, seed), CALIBRATION)


@pytest.fixture(scope="module")
def engine(known_models: Path) -> Iterator[Engine]:
    engine = Engine(Settings(models_folder=known_models, threads=1, backend="onnxruntime"))
    yield engine
    engine.close()


def test_no_module_outside_the_engine_and_the_export_sees_a_logit() -> None:
    package = Path(deepfake.__file__).parent
    seen = []
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] in DEAL_IN_NETWORKS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            name = name or getattr(node, "arg", None) or getattr(node, "name", None)
            if str(name).strip("_").lower() in ("logits", "logit", "check_logits"):
                seen.append(f"{path.name}:{getattr(node, 'lineno', '?')}")
    assert seen == []
    assert not [name for name in dir(read(2)) if "logit" in name and not name.startswith("_")]


def test_a_batch_of_known_bundles_is_read_as_its_logits_mean(engine: Engine) -> None:
    bundle = engine.bundle("image")
    batch = np.random.default_rng(3).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    raw, scored = engine.logits(bundle, batch), engine.score(bundle, batch)
    calibration = bundle.calibration
    assert scored.score == calibration.probability(calibration.pool(raw))
    assert scored.interval == calibration.interval(raw)
    assert scored.windows == tuple(calibration.probability(float(one)) for one in raw)
    odds = calibration.slope * raw.astype(np.float64) + calibration.intercept
    assert (scored.log_odds == odds).all()


def test_what_shall_be_hidden_is_measured_against_the_first_window() -> None:
    scaled = logits(9) * CALIBRATION.slope
    assert scaled.dtype == np.float32
    assert (read(9).drops() == scaled[0] - scaled[1:]).all()
    assert read(9).drops().dtype == np.float32


def test_two_views_of_the_same_windows_are_mixed_by_share() -> None:
    mixed = read(6).mixed(read(6, seed=2), share=0.25)
    assert mixed == Scored.read(0.75 * logits(6) + 0.25 * logits(6, seed=2), CALIBRATION)
    assert mixed.score != read(6).score


def test_moments_count_alike_however_many_windows_they_have() -> None:
    moments = [read(count, seed=count) for count in (1, 4, 9)]
    means = np.array([logits(count, seed=count).mean() for count in (1, 4, 9)], np.float32)
    joined = Scored.join_moments(moments)
    assert joined == Scored.read(means, CALIBRATION)
    assert len(joined.windows) == 3
    assert len(Scored.join(moments).windows) == 14


def test_scores_of_two_bundles_add_up_as_log_odds() -> None:
    scores = (0.83, 0.31)
    odds = sum(math.log(score / (1 - score)) for score in scores)
    joint = replace(CALIBRATION, slope=0.5)
    both = Scored.add(scores, joint)
    assert both.score == joint.probability(odds)
    assert both.interval == joint.interval(np.array([odds], np.float32))


def test_frames_are_read_by_their_higher_half() -> None:
    scores = [0.2, 0.9, 0.6, 0.4, 0.7]
    odds = [math.log(score / (1 - score)) for score in (0.6, 0.7, 0.9)]
    assert pool_frames(scores) == float(np.mean(odds))
    frames = Scored.pool_frames(scores, CALIBRATION)
    assert frames.score == CALIBRATION.probability(float(np.mean(odds)))
    assert pool_frames([0.5]) == 0.0
