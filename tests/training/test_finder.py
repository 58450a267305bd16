"""The face finder's recipe on drawn faces: labels, scenes, targets, fit, measures."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from deepfake_training.export import Trained, halve_graph, write_bundle
from deepfake_training.finder import recipe as finder
from deepfake_training.finder.evaluate import (
    Detections,
    choose_least,
    detect_all,
    false_positives,
    match,
    measure,
    read_detections,
    write_detections,
)
from deepfake_training.finder.fit import FinderFitSettings, fit_finder
from deepfake_training.finder.labels import (
    Labels,
    Scene,
    drop_parts,
    merge,
    read_frames,
    read_scenes,
)
from deepfake_training.finder.scenes import SceneDrawer, SceneSettings, carry, placement
from deepfake_training.finder.targets import MapLoss, make_targets

from deepfake.bundle import Applicability
from deepfake.content.faces import keep_best, overlaps
from deepfake.engine.maps import map_places, read_map
from deepfake.networks.finder import FaceFinder
from deepfake.preprocess import FinderPreprocess
from tests.training.recipes import recipe

SMALL = {"stem": 8, "channels": [8, 16, 16, 16], "width": 16}
UPRIGHT = np.array([[-0.22, -0.12], [0.22, -0.12], [0.0, 0.08], [-0.17, 0.25], [0.17, 0.25]])
CALM = SceneSettings(
    mosaic=0, pasted=0, covered=0, dark=0, blurred=0, noisy=0, compressed=0, grey=0
)


def draw_face(pixels: np.ndarray, centre: tuple[float, float], height: float) -> list[float]:
    """An oval with eyes and a mouth; its row of labels."""
    x, y = centre
    points = UPRIGHT * height + [x, y]
    half = np.array([0.4, 0.5]) * height
    oval = half.round().astype(int).tolist()
    cv2.ellipse(pixels, (round(x), round(y)), oval, 0, 0, 360, (220, 170, 140), -1)
    marks = points.round().astype(int).tolist()
    for eye in marks[:2]:
        cv2.circle(pixels, eye, max(1, round(height / 14)), (30, 20, 20), -1)
    cv2.line(pixels, marks[3], marks[4], (150, 30, 40), max(1, round(height / 12)))
    return [x - half[0], y - half[1], x + half[0], y + half[1], *points.ravel(), 0.95, 1.0]


def drawn_scene(seed: int, *, face: bool = True, source: str = "drawn") -> Scene:
    rng = np.random.default_rng(seed)
    pixels = np.full((160, 160, 3), rng.integers(20, 110, 3), np.uint8)
    for _ in range(6):
        corner, shade = rng.integers(0, 140, 2), rng.integers(0, 140, 3).tolist()
        cv2.rectangle(pixels, corner.tolist(), (corner + 20).tolist(), shade, -1)
    rows = []
    if face:
        rows.append(draw_face(pixels, tuple(rng.uniform(55, 105, 2)), rng.uniform(60, 90)))
    return Scene(f"{source}/{seed}", source, pixels, Labels.from_lists(rows))


def some_labels(sizes: tuple[float, ...] = (20, 60, 150)) -> Labels:
    rows, left = [], 10.0
    for size in sizes:
        rows.append(draw_face(np.zeros((8, 8, 3), np.uint8), (left + size / 2, 100.0), size))
        left += size + 12
    return Labels.from_lists(rows)


def test_targets_give_the_faces_back_through_read_map() -> None:
    labels = some_labels()
    targets = make_targets([labels], rows=192, columns=320)
    centres, cells = map_places(192, 320)
    boxes, points = targets.boxes[0].numpy(), targets.points[0].numpy()
    values = np.full((len(cells), 15), -9.0, np.float32)
    chosen = np.flatnonzero(targets.positive[0].numpy())
    reach = np.hstack([centres[chosen] - boxes[chosen, :2], boxes[chosen, 2:] - centres[chosen]])
    values[chosen, 0] = 4
    values[chosen, 1:5] = np.log(reach / cells[chosen, None])
    off = points[chosen].reshape(-1, 5, 2) - centres[chosen, None]
    values[chosen, 5:] = (off / cells[chosen, None, None]).reshape(-1, 10)
    faces = keep_best(read_map(values, rows=192, columns=320, zoom=1.0, least=0.5))
    assert len(faces) == len(labels)
    for face in faces:
        near = int(np.argmax(overlaps(face.box, labels.boxes)))
        np.testing.assert_allclose(face.box, labels.boxes[near], atol=1e-3)
        np.testing.assert_allclose(face.points, labels.points[near], atol=1e-3)
    losses = MapLoss(rows=192, columns=320)(torch.from_numpy(values)[None], targets)
    assert losses.box.item() < 1e-4
    assert losses.landmarks.item() < 1e-4
    worse = torch.from_numpy(values)[None] + 0.3
    assert MapLoss(rows=192, columns=320)(worse, targets).landmarks.item() > 0.1


def test_nothing_is_asked_inside_an_unsure_face() -> None:
    sure = some_labels((60,))
    unsure = Labels(sure.boxes, sure.points, sure.scores, np.array([False]))
    targets = make_targets([unsure], rows=192, columns=192)
    centres, _ = map_places(192, 192)
    inside = ((centres > sure.boxes[0, :2]) & (centres < sure.boxes[0, 2:])).all(axis=1)
    assert not targets.positive.any()
    assert (targets.weight[0].numpy() == np.where(inside, 0, 1)).all()


def test_a_mirror_exchanges_the_sides_of_a_face() -> None:
    labels = some_labels((60,))
    matrix = placement([80, 100], [100, 90], scale=1.0, degrees=0, mirrored=True)
    moved = carry(labels, matrix, rows=200, columns=200)
    assert moved.sure.all()
    eyes, corners = moved.points[0, :2], moved.points[0, 3:]
    assert eyes[0, 0] < eyes[1, 0]
    assert corners[0, 0] < corners[1, 0]
    expected = 180 - labels.points[0, [1, 0, 2, 4, 3], 0]
    np.testing.assert_allclose(moved.points[0, :, 0], expected)
    back = carry(
        moved,
        placement([100, 90], [80, 100], scale=1, degrees=0, mirrored=True),
        rows=200,
        columns=200,
    )
    np.testing.assert_allclose(back.points, labels.points)
    np.testing.assert_allclose(back.boxes, labels.boxes)


def test_a_face_cut_by_the_border_is_asked_for_only_when_half_is_seen() -> None:
    labels = some_labels((60,))
    for shift, sure in ((0.3, True), (0.7, False)):
        goal = [(0.5 - shift) * 48, 100]  # its box is 48 wide
        matrix = placement(labels.boxes[0, :2] + [24, 30], goal, scale=1, degrees=0, mirrored=False)
        moved = carry(labels, matrix, rows=200, columns=200)
        assert moved.sure.tolist() == [sure]
    far = placement([80, 100], [-200, 100], scale=1, degrees=0, mirrored=False)
    assert not len(carry(labels, far, rows=200, columns=200))


def test_scenes_show_their_faces_where_their_labels_say() -> None:
    scenes = [drawn_scene(seed) for seed in range(4)] + [drawn_scene(9, face=False)]
    drawer, seen = SceneDrawer(scenes, CALM, weights={}), 0
    for seed in range(30):
        pixels, labels = drawer.draw(np.random.default_rng(seed), height=160, width=192)
        assert pixels.shape == (160, 192, 3)
        for box, points in zip(labels.boxes[labels.sure], labels.points[labels.sure], strict=True):
            size = float((box[2:] - box[:2]).min())
            inside = ((points[:2] > 3) & (points[:2] < [189, 157])).all()
            if size < 40 or not inside:
                continue
            between = points[:2].mean(axis=0).round().astype(int)
            eye = points[0].round().astype(int)
            skin, pupil = (int(pixels[y, x].sum()) for x, y in (between, eye))
            assert skin > pupil + 100
            seen += 1
    assert seen >= 5
    one = drawer.draw(np.random.default_rng(3), height=64, width=64)
    two = drawer.draw(np.random.default_rng(3), height=64, width=64)
    assert (one[0] == two[0]).all()


def test_harm_and_mosaics_keep_the_form_of_a_scene() -> None:
    scenes = [drawn_scene(seed) for seed in range(3)] + [drawn_scene(9, face=False)]
    everything = SceneSettings(
        mosaic=1,
        pasted=1,
        covered=1,
        dark=0.5,
        blurred=1,
        noisy=1,
        compressed=1,
        grey=0.5,
    )
    drawer = SceneDrawer(scenes, everything, weights={"drawn": 2.0})
    for seed in range(12):
        pixels, labels = drawer.draw(np.random.default_rng(seed), height=96, width=160)
        assert pixels.shape == (96, 160, 3)
        assert pixels.dtype == np.uint8
        assert np.isfinite(labels.points).all()


def test_merging_needs_two_scales_and_drops_parts_of_a_face() -> None:
    row = np.array(some_labels((60,)).to_lists()[0][:15])
    weak = row.copy()
    weak[14] = 0.5
    nothing = np.zeros((0, 15))
    assert merge([row[None], weak[None]], [0.5, 1.0]).sure.tolist() == [True]
    assert merge([row[None], nothing], [0.5, 1.0]).sure.tolist() == [False]
    assert merge([weak[None], weak[None]], [0.5, 1.0]).sure.tolist() == [False]
    assert not len(merge([nothing, nothing], [0.5, 1.0]))
    face = some_labels((60,))
    part = Labels(np.array([[40.0, 95, 52, 107]]), face.points, face.scores, np.array([False]))
    both = Labels(
        *(
            np.concatenate([getattr(face, name), getattr(part, name)])
            for name in ("boxes", "points", "scores", "sure")
        )
    )
    assert len(drop_parts(both)) == 1
    assert len(drop_parts(part)) == 1


def test_frames_are_spread_over_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for level in range(0, 200, 10):
            pixels = np.full((64, 64, 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    levels = [float(frame.mean()) for frame in read_frames(path, count=4)]
    np.testing.assert_allclose(levels, [0, 60, 130, 190], atol=12)
    assert len(list(read_frames(path, count=50))) == 20


def test_stored_scenes_are_read_without_the_teacher(tmp_path: Path) -> None:
    scene = drawn_scene(1)
    (tmp_path / "pixels.bin").write_bytes(scene.pixels.tobytes())
    row = {"path": "p", "source": "s", "height": 160, "width": 160, "start": 0}
    text = json.dumps([row | {"faces": scene.labels.to_lists()}])
    (tmp_path / "scenes.json").write_text(text)
    (read,) = read_scenes([], teacher=Path("none"), data=tmp_path, folder=tmp_path)
    assert (read.pixels == scene.pixels).all()
    np.testing.assert_allclose(read.labels.boxes, scene.labels.boxes, atol=1e-3)


def test_split_keeps_sources_apart() -> None:
    scenes = [drawn_scene(n, source=name) for n, name in enumerate("aabbcd")]
    settings = {"threads": 1, "limits": {}, "rounds": [], "validation": ["b"], "unused": ["d"]}
    settings |= {"network": {"stem": 8, "channels": [8], "width": 8}, "test": ["a"]}
    parts = finder.split(scenes, recipe(finder.FinderRecipe, settings))
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [1, 2, 2]
    with pytest.raises(ValueError, match="not in the material"):
        finder.split(scenes, recipe(finder.FinderRecipe, settings | {"test": ["z"]}))


def detection(found: list[list[float]], labels: Labels, *, view: str = "clean") -> Detections:
    return Detections("test", "p", "s", view, 0, labels, Labels.from_lists(found))


def test_measures_count_hits_misses_and_false_positives(tmp_path: Path) -> None:
    labels = some_labels((60, 80))
    row = [*labels.boxes[0], *(labels.points[0] + [2.0, 0.0]).ravel(), 0.8, 1.0]
    wrong = [200.0, 10.0, 240.0, 50.0, *np.zeros(10), 0.6, 1.0]
    one = detection([row, wrong], labels)
    hit, miss = match(one)
    assert hit.score == 0.8
    assert hit.error == pytest.approx(2 / (0.44 * 60))
    assert miss.score == 0
    assert false_positives(one) == [1]
    (view,) = measure([one], least=0.5)["views"]
    assert view["faces"] == 2
    assert view["recall"] == 0.5
    assert view["false_positives"] == 1
    assert measure([one], least=0.7)["views"][0]["false_positives"] == 0
    unsure = Labels(labels.boxes, labels.points, labels.scores, np.array([True, False]))
    near = [*(labels.boxes[1] + [20, 0, 20, 0]), *np.zeros(10), 0.9, 1.0]
    assert false_positives(detection([near], unsure)) == []
    assert choose_least([one] * 10) == pytest.approx(0.61)
    write_detections(tmp_path / "d.jsonl", [one])
    (again,) = read_detections(tmp_path / "d.jsonl")
    assert measure([again], least=0.5) == measure([one], least=0.5)


def test_a_few_steps_find_drawn_faces_and_a_bundle_ships_them(tmp_path: Path) -> None:
    scenes = [drawn_scene(seed) for seed in range(6)] + [drawn_scene(50, face=False)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = FinderFitSettings(
        steps=200, canvases=((128, 128, 8),), rate=8e-3, average=0.9, seed=1, landmarks=2.0
    )
    calm = SceneSettings(**{**vars(CALM), "smallest": 40.0})
    drawer = SceneDrawer(scenes, calm, weights={})
    networks = []
    for _ in range(2):  # the second time nothing is left to do
        torch.manual_seed(1)
        fresh = FaceFinder(**SMALL)
        networks.append(fit_finder(fresh, drawer, settings, checkpoint=tmp_path / "checkpoint"))
    network, again = networks
    torch.set_num_threads(threads)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    fused = network.fuse()
    trained = Trained(
        network=fused,
        network_name="face_finder",
        network_options=fused.options,
        preprocess=FinderPreprocess(),
        records=[],
        limits=Applicability(min_side_pixels=32),
        facts={},
    )
    bundle = write_bundle(
        trained,
        name="face-finder-1",
        calibration=finder.calibration_at(0.3),
        metrics={},
        folder=tmp_path / "face-finder-1",
    )
    found = [one for one in detect_all(bundle, scenes, part="test") if one.view == "clean"]
    row = measure(found, least=0.15)["views"][0]
    assert row["faces"] == 6
    assert row["recall"] >= 0.8
    assert row["landmark_error"] < 0.4
    assert bundle.size_bytes < 400_000


def test_halved_graph_gives_the_same_numbers(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (32, 16)).astype(np.float16).astype(np.float32)
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["batch", "w"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("batch", 1, ["n", 32])],
        [helper.make_tensor_value_info("logits", 1, ["n", 16])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    batch = rng.normal(0, 1, (3, 32)).astype(np.float32)

    def run() -> np.ndarray:
        return onnxruntime.InferenceSession(path.read_bytes()).run(None, {"batch": batch})[0]

    before, size = run(), path.stat().st_size
    halve_graph(path)
    assert (run() == before).all()
    assert path.stat().st_size < 0.7 * size
