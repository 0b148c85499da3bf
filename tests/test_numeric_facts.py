"""The numbers that every language modelling loss must reproduce (torch.manual_seed(42); logits of 3 rows, 5 words)."""

import math

import pytest
import torch
from torch import nn

from ntp.data.example import IGNORE, Batch, Tally
from ntp.models.base import LanguageModel
from ntp.objectives.causal import Causal
from ntp.training.metrics import Totals
from tests.conftest import read_metrics


class Fixed(LanguageModel):
    """A model whose logits are given: the hidden state is the logits."""

    def __init__(self, logits):
        super().__init__()
        self.table = nn.Parameter(logits)
        self.vocabulary_size = self.width = logits.shape[1]
        self.context_length = None

    def forward(self, tokens, **_):
        return self.table[tokens]

    def logits(self, hidden):
        return hidden.float()

    def token_nll(self, hidden, targets, *, excluded=None):
        return nn.functional.cross_entropy(self.logits(hidden), targets, reduction="none")

    def forward_flops(self, length, targets):
        return 0


def batch_of(targets, rows=None):
    targets = torch.tensor([targets])
    places = torch.arange(targets.shape[1])[None] if rows is None else torch.tensor([rows])
    is_target = targets != IGNORE
    return Batch(
        places,
        targets,
        "causal",
        target_index=None if is_target.all() else is_target.flatten().nonzero()[:, 0],
        tallies=[Tally(count := int(is_target.sum()), count, 3 * count, 0, 0)],
    )


@pytest.fixture
def model():
    torch.manual_seed(42)
    return Fixed(torch.randn(3, 5))


def means(*terms):
    totals = Totals()
    for one in terms:
        totals.add(one)
    return totals.means(lambda value: [value])


def test_the_logits_are_the_published_ones(model):
    assert model.table[0].tolist() == pytest.approx([0.336690, 0.128809, 0.234462, 0.230333, -1.122856], abs=1e-6)


def test_nats_of_each_target(model):
    nll = model.token_nll(model.table, torch.tensor([0, 3, 1]))
    assert nll.tolist() == pytest.approx([1.3471824, 2.1299256, 1.2115952], abs=1e-6)


def test_mean_perplexity_bits_per_token_and_per_byte(model):
    result = means(Causal().loss(model, batch_of([0, 3, 1])))
    assert result["loss"] == pytest.approx(1.5629011, abs=1e-6)
    assert result["perplexity"] == pytest.approx(4.7726470, abs=1e-5)
    assert result["bits_per_token"] == pytest.approx(2.2547896, abs=1e-6)
    assert result["bits_per_byte"] == pytest.approx(2.2547896 / 3, abs=1e-6)


def test_ignored_targets_count_for_nothing(model):
    assert means(Causal().loss(model, batch_of([0, IGNORE, 1])))["loss"] == pytest.approx(1.2793888, abs=1e-6)


def test_micro_batches_are_weighted_by_their_targets(model):
    parts = [Causal().loss(model, batch_of([0], rows=[0])), Causal().loss(model, batch_of([3, 1], rows=[1, 2]))]
    assert means(*parts)["loss"] == pytest.approx(1.5629011, abs=1e-6)
    wrong = sum(means(one)["loss"] for one in parts) / 2
    assert wrong == pytest.approx(1.5089714, abs=1e-6)


def test_gradient_of_the_mean(model):
    terms = Causal().loss(model, batch_of([0, 3, 1]))
    (terms.sum / terms.count).backward()
    expected = [-0.2466761, 0.0703920, 0.0782362, 0.0779138, 0.0201341]
    assert model.table.grad[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert model.table.grad.sum(1).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_targets_are_aligned_and_nobody_shifts_them_again(model):
    # What a library that shifts inside its loss computes for labels 0, 3, 1 (rows 0 and 1 against 3 and 1).
    shifted = means(Causal().loss(model, batch_of([3, 1], rows=[0, 1])))["loss"]
    assert shifted == pytest.approx(0.9184605, abs=1e-6)


def test_uniform_logits_give_the_logarithm_of_the_vocabulary():
    result = means(Causal().loss(Fixed(torch.zeros(2, 50257)), batch_of([7, 50256])))
    assert result["loss"] == pytest.approx(10.8249051, abs=1e-6)
    assert result["loss"] == pytest.approx(math.log(50257), abs=1e-6)


def test_no_target_at_all_is_a_finite_zero_connected_to_the_graph(model):
    terms = Causal().loss(model, batch_of([IGNORE, IGNORE, IGNORE]))
    assert terms.sum.item() == 0
    terms.sum.backward()
    assert model.table.grad is not None
    assert not model.table.grad.any()
    assert means(terms) == {}


def test_a_step_without_targets_changes_no_weight(ntp, tiny, tmp_path):
    options = ("objective._target_=tests.commands.mute.Mute", "allow_targets=[tests]", "optimizer.learning_rate=0.1")
    outcome = ntp("train", *tiny, *options, "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["ntp"]["empty_steps"] == 4
    ntp("train", *tiny, "budget.steps=1", "schedule=constant", "optimizer.learning_rate=1e-30", "run_dir=untouched")
    untouched = torch.load(tmp_path / "untouched/checkpoints/last.ckpt", weights_only=True)
    for name, weight in checkpoint["state_dict"].items():
        assert torch.equal(weight, untouched["state_dict"][name]), name
    assert not [line for line in read_metrics(tmp_path / "run") if "train/loss" in line]
