import numpy as np
import pytest

from ntp.training.spikes import SpikeDetector


def scores(losses, window=16, threshold=8.0):
    detector = SpikeDetector(window, threshold)
    return [detector.begins(loss) for loss in losses]


def noisy(count=200, scale=1.0):
    return scale * (3.0 + 0.05 * np.random.default_rng(0).normal(size=count))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_loss_that_stands_out_is_a_spike_at_any_scale(scale):
    losses = noisy(scale=scale)
    losses[150] *= 1.5
    found = scores(losses)
    assert [step for step, score in enumerate(found) if score is not None] == [150]
    assert found[150] > 8.0


def test_noise_and_a_loss_that_falls_are_no_spikes():
    assert set(scores(noisy())) == {None}
    assert set(scores(noisy() * np.geomspace(4.0, 1.0, 200))) == {None}
    assert set(scores(noisy() / np.where(np.arange(200) == 150, 1.5, 1.0))) == {None}


def test_nothing_is_a_spike_before_the_window_is_full():
    losses = noisy()
    losses[15] *= 10
    assert set(scores(losses)) == {None}


def test_a_spike_counts_once_however_long_it_lasts():
    losses = noisy()
    losses[100:105] *= 1.5
    losses[150] *= 1.5
    assert [step for step, score in enumerate(scores(losses)) if score is not None] == [100, 150]


def test_one_spike_does_not_hide_the_next():
    losses = noisy()
    losses[150], losses[152] = 1e6, 4.5
    assert [step for step, score in enumerate(scores(losses)) if score is not None] == [150, 152]


def test_a_loss_that_has_stood_still_may_rise_a_little():
    assert set(scores([2.0] * 50 + [2.1] + [2.0] * 10)) == {None}
    assert scores([2.0] * 50 + [2.5])[-1] is not None


def test_without_a_threshold_there_are_no_spikes():
    assert set(scores([2.0] * 50 + [1e6], threshold=None)) == {None}
