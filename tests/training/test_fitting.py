"""What every fit shares: weights that are fitted once, checkpoints, files that are never half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training.files import (
    read_lines,
    read_times,
    timed,
    write_arrays,
    write_lines,
)
from deepfake_training.fitting import (
    Loop,
    average_weights,
    couples_at,
    draw_batches,
    fit_once,
    fit_steps,
    prepare_process,
    read_checkpoint,
    save_checkpoint,
)
from torch import nn

from deepfake.files import replaced


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


def test_the_average_follows_faster_at_first_where_it_warms_up() -> None:
    network = filled(0.0)
    average = average_weights(network, decay=0.99, warm_up=True)
    average.update_parameters(network)
    with torch.no_grad():
        network.bias.fill_(1.0)
    average.update_parameters(network)
    assert average.module.bias.item() == pytest.approx(1 - 2 / 11)


class Fitted:
    """A tiny network with dropout and a fixed part that learns whether a number is above zero."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(
            *(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.3)),
            *(nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5)), nn.Linear(8, 1)),
        )
        self.network[3].requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=0.05)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, 0.05, total_steps=40)
        self.steps: list[int] = []
        self.stop_at = -1

    def losses_at(self, step: int) -> dict[str, torch.Tensor]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.steps.append(step)
        numbers = np.random.default_rng([7, step]).normal(0, 1, (16, 1)).astype(np.float32)
        batch = torch.from_numpy(numbers)
        logits = self.network(batch)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, (batch > 0).float())
        return {"loss": loss, "right": ((logits > 0) == (batch > 0)).float().mean()}

    def run(self, loop: Loop, checkpoint: Path) -> nn.Sequential:
        return fit_steps(
            self.network,
            self.losses_at,
            self.optimiser,
            self.schedule,
            loop,
            checkpoint=checkpoint,
            name="tiny",
        )


LOOP = Loop(steps=40, round_steps=10, average=0.8)


def test_a_fit_that_was_stopped_ends_as_one_that_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Fitted().run(LOOP, tmp_path / "whole.checkpoint").state_dict()
    stopped = Fitted()
    stopped.stop_at = 25
    with pytest.raises(KeyboardInterrupt):
        stopped.run(LOOP, tmp_path / "fit.checkpoint")
    torch.manual_seed(99)
    resumed = Fitted()
    result = resumed.run(LOOP, tmp_path / "fit.checkpoint").state_dict()
    assert resumed.steps == list(range(20, 40))
    for key, value in whole.items():
        assert torch.equal(result[key], value), key
    assert "tiny, step 40 of 40: loss " in capsys.readouterr().out


def test_a_fit_learns_and_leaves_its_fixed_part(tmp_path: Path) -> None:
    fitted = Fitted()
    before = {key: value.clone() for key, value in fitted.network[3].state_dict().items()}
    network = fitted.run(LOOP, tmp_path / "fit.checkpoint")
    assert not network.training
    numbers = torch.linspace(-2, 2, 41)[:, None]
    with torch.inference_mode():
        right = (network(numbers) > 0) == (numbers > 0)
    assert right.float().mean() > 0.9
    for key, value in network[3].state_dict().items():
        assert torch.equal(value, before[key]), key


def test_without_an_average_the_last_weights_are_kept(tmp_path: Path) -> None:
    fitted = Fitted()
    network = fitted.run(replace(LOOP, average=0.0), tmp_path / "fit.checkpoint")
    for key, value in fitted.network.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value)


def scores(values: list[float]) -> tuple[Callable[[nn.Module], float], list[torch.Tensor]]:
    """A judge that gives ``values`` in turn, and the weights that it saw."""
    seen: list[torch.Tensor] = []

    def judge(network: nn.Module) -> float:
        assert not network.training
        seen.append(next(network.parameters()).detach().clone())
        return values[len(seen) - 1]

    return judge, seen


def test_a_fit_ends_early_with_the_best_weights(tmp_path: Path) -> None:
    judge, seen = scores([0.6, 0.9, 0.8, 0.7, 1.0])
    fitted = Fitted()
    network = fitted.run(
        Loop(steps=40, round_steps=5, average=0.5, judge=judge, patience=2),
        tmp_path / "fit.checkpoint",
    )
    assert fitted.steps == list(range(20))
    assert torch.equal(next(network.parameters()), seen[1])
    assert not torch.equal(seen[1], seen[3])
    again = Fitted()
    after = again.run(
        Loop(steps=40, round_steps=5, average=0.5, judge=judge, patience=2),
        tmp_path / "fit.checkpoint",
    )
    assert not again.steps
    assert torch.equal(next(after.parameters()), seen[1])


def test_steps_go_through_the_couples_of_epoch_after_epoch() -> None:
    couples = np.arange(11)
    at = couples_at(couples, size=3, seed=1)
    drawn = [at(step).tolist() for step in range(6)]
    expected = [
        batch.tolist()
        for epoch in (0, 1)
        for batch in draw_batches(couples, size=3, seed=1, epoch=epoch)
    ]
    assert drawn == expected
    assert at(0).tolist() == drawn[0]


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
