"""What the ledger says a micro-batch costs is what torch counts, for every objective that there is a YAML file of."""

from pathlib import Path

import ntp.conf
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ntp.config.schema import TrainConfig
from ntp.config.validation import validate
from ntp.data.example import Batch
from ntp.data.module import TextDataModule
from ntp.testing.trainings import compose_training
from ntp.training.setup import Setup, set_up

OBJECTIVES = sorted(path.stem for path in (Path(ntp.conf.__path__[0]) / "objective").glob("*.yaml"))
OF_PREFIX_ATTENTION = ["prefix_lm", "span_corruption", "ul2"]
TINY = ("data/tokenizer=char", "data.sequence_length=64", "data.batch_size=4", "trainer.accelerator=cpu")
DECODER = ("model.width=16", "model.layers=2", "model.heads=2", "model.mlp_width=24")
PAIR = ("model=t5_nano", "model.width=16", "model.heads=2", "model.mlp_width=24", "data.micro_batch_size=1")


def prepared(packed: tuple[str, ...], *overrides: str) -> tuple[Setup, list[Batch]]:
    """A run, and the first micro-batches that it would train on."""
    settings = ("data=files", *packed, *TINY, *overrides)
    setup = set_up(validate(compose_training(settings), TrainConfig))
    config = setup.config
    data = TextDataModule(
        setup.prepared, setup.objective, config.data, config.evaluation, config.seed, setup.budget.steps
    )
    setup.model.train()
    setup.objective.train()
    return setup, [batch for batch, _ in zip(data.train_dataloader(), range(4), strict=False)]


def counted(setup: Setup, batch: Batch) -> int:
    """Forward and backward passes, by torch; the fused kernel of the CPU is unknown to its counter."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        setup.objective.loss(setup.model, batch).sum.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("documents", ["concatenate", "isolate"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_micro_batch_of_a_decoder_costs_what_torch_counts(packed, objective, documents):
    setup, batches = prepared(packed, f"objective={objective}", f"data.documents={documents}", *DECODER)
    for batch in batches:
        assert setup.objective.training_flops(setup.model, batch) == counted(setup, batch)


@pytest.mark.parametrize("documents", ["concatenate", "isolate"])
@pytest.mark.parametrize("objective", OF_PREFIX_ATTENTION)
def test_a_row_of_an_encoder_decoder_costs_what_torch_counts(packed, objective, documents):
    setup, batches = prepared(packed, f"objective={objective}", f"data.documents={documents}", *PAIR)
    for batch in batches:
        assert setup.objective.training_flops(setup.model, batch) == counted(setup, batch)


@pytest.mark.parametrize("objective", OF_PREFIX_ATTENTION)
def test_what_a_row_costs_does_not_depend_on_the_rows_beside_it(packed, objective):
    setup, single = prepared(packed, f"objective={objective}", *PAIR)
    _, together = prepared(packed, f"objective={objective}", *PAIR, "data.micro_batch_size=4")
    assert torch.equal(together[0].tokens, torch.cat([one.tokens for one in single]))
    alone = sum(setup.objective.training_flops(setup.model, one) for one in single)
    assert setup.objective.training_flops(setup.model, together[0]) == alone
