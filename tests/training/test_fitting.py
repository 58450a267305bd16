"""What every fit shares: weights that are fitted once, checkpoints, files that are never half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training.files import read_lines, replaced, write_arrays, write_lines
from deepfake_training.fitting import (
    average_weights,
    draw_batches,
    fit_once,
    prepare_process,
    read_checkpoint,
    save_checkpoint,
)
from deepfake_training.timing import read_times, timed
from torch import nn


def filled(value: float) -> nn.Linear:
    """A layer whose every number is ``value``."""
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(value)
    return layer


def test_a_network_is_fitted_once_and_then_read(tmp_path: Path) -> None:
    path, fits = tmp_path / "network.safetensors", []

    def fit(network: nn.Linear) -> nn.Linear:
        fits.append(network)
        path.with_suffix(".checkpoint").touch()
        return filled(3.0)

    for start in (1.0, 2.0):
        network = fit_once(filled(start), path, fit)
        assert not network.training
        assert network.bias.item() == 3.0
    assert len(fits) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["network.safetensors"]


def test_a_checkpoint_gives_every_part_its_state_back(tmp_path: Path) -> None:
    def parts(value: float) -> dict[str, nn.Module]:
        return {"network": filled(value), "average": filled(2 * value)}

    path = tmp_path / "fit.checkpoint"
    fresh = parts(1.0)
    assert read_checkpoint(path, fresh) == 0
    save_checkpoint(path, parts(5.0), done=7)
    assert read_checkpoint(path, fresh) == 7
    assert [part.bias.item() for part in fresh.values()] == [5.0, 10.0]


def test_the_average_follows_the_weights() -> None:
    network = filled(0.0)
    average = average_weights(network, decay=0.75)
    average.update_parameters(network)
    with torch.no_grad():
        network.bias.fill_(1.0)
    average.update_parameters(network)
    assert average.module.bias.item() == pytest.approx(0.25)


def test_an_epoch_draws_every_couple_at_most_once() -> None:
    couples = np.arange(10, 21)
    batches = list(draw_batches(couples, size=3, seed=1, epoch=0))
    drawn = np.concatenate(batches)
    assert len(batches) == 3
    assert len(set(drawn)) == 9
    assert set(drawn) <= set(couples)
    again = np.concatenate(list(draw_batches(couples, size=3, seed=1, epoch=0)))
    other = np.concatenate(list(draw_batches(couples, size=3, seed=1, epoch=1)))
    assert (drawn == again).all()
    assert (drawn != other).any()


def test_a_process_has_the_threads_that_it_was_given() -> None:
    before = torch.get_num_threads()
    prepare_process(1)
    assert torch.get_num_threads() == 1
    assert float(torch.tensor(1e-38) * 1e-4) == 0.0  # denormal
    torch.set_flush_denormal(False)
    prepare_process(before)


def test_a_crash_leaves_the_file_before_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_lines(path, [{"a": 1}, [2, 3]])

    def stop(partial: Path) -> None:
        partial.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replaced(path) as partial:
        stop(partial)
    assert read_lines(path) == [{"a": 1}, [2, 3]]
    write_arrays(tmp_path / "some.npz", one=np.arange(3))
    with np.load(tmp_path / "some.npz", allow_pickle=False) as stored:
        assert stored["one"].tolist() == [0, 1, 2]


def test_times_of_interrupted_runs_add_up(tmp_path: Path) -> None:
    with timed("data", tmp_path):
        pass
    first = read_times(tmp_path)["data"]
    with pytest.raises(KeyboardInterrupt), timed("data", tmp_path):
        raise KeyboardInterrupt
    assert read_times(tmp_path)["data"] >= first
    assert set(read_times(tmp_path)) == {"data"}
