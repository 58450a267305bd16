"""The audio recipe end to end on a few synthetic sounds, and the rules that make it honest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from deepfake_training import perturb
from deepfake_training.audio import data as audio_data
from deepfake_training.audio import recipe as audio
from deepfake_training.audio import vocoder as audio_vocoder
from deepfake_training.audio.fit import Sampler, SpeechFitSettings
from deepfake_training.audio.vocoder import MelGenerator, MelVocoder, WaveCodec, train_resynthesiser
from deepfake_training.export import export_onnx
from deepfake_training.imagenet import FILE, load_mobilenet
from deepfake_training.records import unheard
from safetensors.torch import save_file
from scipy.io import wavfile

from deepfake.errors import ModelError, SettingsError
from deepfake.networks import create
from tests.training.recipes import recipe

RATE = 16000
FOLDERS = {"corpus-a": 0, "corpus-b": 0, "system-a": 1, "system-b": 1}


def voice(seed: int, *, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    turns = np.cumsum(120 + 30 * np.sin(2 * np.pi * rng.uniform(1, 3) * time)) / RATE
    buzz = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 20))
    level = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 4) * time)
    return 0.1 * buzz * level + rng.normal(0, 0.003, len(time))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    rows = ["path\tsha256\tlabel\tsystem"]
    for number, (folder, label) in enumerate(FOLDERS.items()):
        kind = "fake" if label else "real"
        (data / "audio" / kind / folder).mkdir(parents=True)
        for index in range(3):
            path = data / "audio" / kind / folder / f"{folder}-{index}.wav"
            samples = voice(10 * number + index, seconds=1.1 + 0.5 * index)
            wavfile.write(path, RATE, np.round(samples * 32767).astype(np.int16))
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append(f"{path.relative_to(data / 'audio')}\t{sha256}\t{kind}\t{folder}")
    (data / "audio" / "manifest.tsv").write_text("\n".join(rows) + "\n")
    (data / "weights").mkdir()
    torch.manual_seed(0)
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    save_file(trunk.state_dict(), data / "weights" / FILE)
    return data


def settings(**changed: Any) -> audio.AudioRecipe:
    values = {
        "seed": 3,
        "workers": 1,
        "network": {"name": "spectrogram_mobilenet", "options": {"stages": 1, "dense": 8}},
        "fit": {"steps": 2, "steps_per_epoch": 1, "genuine": 3, "paired": 2, "fakes": 2},
        "vocoder_steps": 3,
        "pool_rounds": 1,
        "preprocess": {"window_seconds": 1.0, "hop_seconds": 0.5},
        "limits": {"min_seconds": 0.5},
        "folds": [
            {"name": "a", "folders": ["corpus-a", "system-a"], "unseen_makers": ["world"]},
            {"name": "b", "folders": ["corpus-b", "system-b"]},
        ],
    }
    return recipe(audio.AudioRecipe, values | changed)


@pytest.fixture(scope="module")
def run(material: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    output = tmp_path_factory.mktemp("run")
    return audio.train(
        settings(), data=material, weights=material / "weights", output=output
    ), output


def test_every_file_is_scored_once_in_every_view_by_a_model_that_never_saw_it(
    run: tuple[Any, Path],
) -> None:
    trained, _ = run
    unseen = unheard(trained.records)
    keys = [(record.path, record.view) for record in unseen]
    assert len(keys) == len(set(keys)) == 12 * len(perturb.AUDIO_VIEWS)
    for record in unseen:
        assert record.group == "ab"[record.fold]
        assert ("-a/" in record.path) == (record.fold == 0)
        assert len(record.logits) >= 1
    assert set(trained.facts["shortcut_shifts"]) == set(audio.CHECKS)


def test_reserved_clips_are_scored_by_models_that_heard_their_corpus_but_not_them(
    run: tuple[Any, Path], material: Path
) -> None:
    trained, output = run
    config = settings()
    clips = audio_data.read_clips([material / "audio"], folds=config.folds)
    reserved = {clip.item.path.name for clip in clips if clip.reserved}
    assert reserved
    assert not any(clip.item.label for clip in clips if clip.reserved)
    heard = [record for record in trained.records if record.heard]
    assert {Path(record.path).name for record in heard} == reserved
    assert all(("-a/" in record.path) == (record.fold == 1) for record in heard)
    pool = audio.prepare_pool(config, clips=clips, preprocess=trained.preprocess, output=output)
    given: list[Any] = []

    def note(network: Any, *_: Any, allowed: Any, **__: Any) -> Any:
        given.append(allowed)
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "fit_network", note)
        for number in (0, 1, None):
            audio.train_fold(
                config,
                number=number,
                clips=clips,
                pool=pool,
                weights=material / "weights",
                output=output,
            )
    for allowed in given[:2]:
        assert not any(clips[index].reserved for index in pool.clips[allowed])
    assert len(given[2]) == len(pool.clips)


def test_a_second_run_reads_everything_back(
    run: tuple[Any, Path], material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, output = run

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(audio_data, "make_round", fail)
    monkeypatch.setattr("deepfake_training.audio.fit._loss", fail)
    again = audio.train(settings(), data=material, weights=material / "weights", output=output)
    assert again.records == trained.records
    for one, two in zip(again.network.parameters(), trained.network.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_an_interrupted_fit_ends_as_if_it_had_not_been(
    run: tuple[Any, Path], material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, output = run
    config = settings()
    clips = audio_data.read_clips([material / "audio"], folds=config.folds)
    preprocess = trained.preprocess
    pool = audio.prepare_pool(config, clips=clips, preprocess=preprocess, output=output)
    whole = audio.train_fold(
        config, number=0, clips=clips, pool=pool, weights=material / "weights", output=output
    )
    real = audio_data.Pool.batch
    calls = []

    def stop_in_second_epoch(self: Any, rows: Any) -> Any:
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, rows)

    monkeypatch.setattr(audio_data.Pool, "batch", stop_in_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        audio.train_fold(
            config, number=0, clips=clips, pool=pool, weights=material / "weights", output=tmp_path
        )
    assert (tmp_path / "fold_0.checkpoint").exists()
    resumed = audio.train_fold(
        config, number=0, clips=clips, pool=pool, weights=material / "weights", output=tmp_path
    )
    assert len(calls) == 3
    for one, two in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_other_settings_do_not_mix_with_what_is_there(run: tuple[Any, Path]) -> None:
    _, output = run
    with pytest.raises(SettingsError, match="holds the work of other settings; remove it"):
        audio.check_settings(settings(seed=4), output=output)
    audio.check_settings(settings(workers=2), output=output)


def test_batches_hold_pairs_and_nothing_that_is_held_out(
    run: tuple[Any, Path], material: Path
) -> None:
    trained, output = run
    config = settings()
    clips = audio_data.read_clips([material / "audio"], folds=config.folds)
    pool = audio.prepare_pool(config, clips=clips, preprocess=trained.preprocess, output=output)
    folds = np.array([clip.fold for clip in clips])[pool.clips]
    fit = SpeechFitSettings(steps=1, genuine=3, paired=2, fakes=2)
    sampler = Sampler(pool, allowed=np.flatnonzero(folds == 1), clips=clips, fit=fit)
    rows, labels = sampler.draw(np.random.default_rng(0))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (folds[rows] == 1).all()
    for original, copy in zip(rows[:2], rows[3:5], strict=True):
        assert pool.pairs[copy] == original
        assert pool.clips[copy] == pool.clips[original]
        assert pool.makers[copy] != ""
    assert [clips[i].item.label for i in pool.clips[rows]] == [0, 0, 0, 0, 0, 1, 1]


def test_a_folder_without_a_fold_is_an_error(material: Path) -> None:
    with pytest.raises(SettingsError, match="folder system-b: in no fold"):
        audio_data.read_clips(
            [material / "audio"],
            folds=[audio_data.SpeechFold(name="a", folders=("corpus-a", "corpus-b", "system-a"))],
        )


@pytest.mark.parametrize(
    "make",
    [
        partial(MelVocoder, width=8, layers=1),
        partial(MelGenerator, width=16),
        partial(WaveCodec, width=4),
    ],
)
def test_resynthesisers_learn(make: Callable[[], torch.nn.Module], tmp_path: Path) -> None:
    from deepfake_training.audio.vocoder import resynthesis_loss

    torch.manual_seed(0)
    network = make()
    sounds = [voice(1, seconds=1.0).astype(np.float32)]
    target = torch.from_numpy(sounds[0])[None]
    before = float(resynthesis_loss(network(target), target, aligned=False).detach())
    train_resynthesiser(
        network,
        sounds,
        path=tmp_path / "x.safetensors",
        steps=16,
        seed=0,
        sounds_per_step=2,
        samples_per_sound=4096,
    )
    made = network(target)
    assert made.shape == target.shape
    assert float(resynthesis_loss(made, target, aligned=False).detach()) < before - 0.3


def test_an_interrupted_resynthesiser_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = [voice(1, seconds=1.0).astype(np.float32)]
    monkeypatch.setattr(audio_vocoder, "STEPS_PER_ROUND", 2)
    real, calls = audio_vocoder.resynthesis_loss, []

    def stop_at_fourth_step(*values: Any, **options: Any) -> torch.Tensor:
        calls.append(values)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*values, **options)

    def fit(name: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        network = MelVocoder(width=8, layers=1)
        path = tmp_path / f"{name}.safetensors"
        train_resynthesiser(
            network, sounds, path=path, steps=5, seed=0, sounds_per_step=1, samples_per_sound=2048
        )
        return network.state_dict()

    whole = fit("whole")
    monkeypatch.setattr(audio_vocoder, "resynthesis_loss", stop_at_fourth_step)
    with pytest.raises(KeyboardInterrupt):
        fit("parts")
    resumed = fit("parts")
    assert len(calls) == 7
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value)


def test_networks_export_and_agree(tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(0)
    network = create("spectrogram_mobilenet", stages=2, dense=8).eval()
    batch = np.stack([voice(seed, seconds=1.0) for seed in range(3)]).astype(np.float32)
    export_onnx(network, batch, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(None, {"batch": batch})
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
        louder = network(torch.from_numpy(batch * 1.02)).numpy()
    assert logits.shape == (3,)
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert np.abs(louder - expected).max() < 0.05


def test_imagenet_weights_reach_the_trunk(tmp_path: Path) -> None:
    whole = timm.create_model("mobilenetv2_100", pad_type="same")
    save_file(whole.state_dict(), tmp_path / FILE)
    network = create("spectrogram_mobilenet", stages=2, dense=8)
    places = {"conv_stem": "trunk.0", "blocks.1": "trunk.3"}
    load_mobilenet(network, tmp_path, places=places)
    stem = whole.conv_stem.weight.sum(1, keepdim=True)
    torch.testing.assert_close(network.trunk[0].weight, stem)
    torch.testing.assert_close(
        network.trunk[3].state_dict(), whole.blocks[1].state_dict(), rtol=0, atol=0
    )
    with pytest.raises(ModelError, match="cannot be read"):
        load_mobilenet(network, tmp_path / "nowhere", places=places)
