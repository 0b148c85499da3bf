import copy

import pytest
import torch

from ntp.models.transformer import Transformer
from ntp.training.optimizers import BASE_LEARNING_RATE, AdamW, CombinedOptimizer, MuonWithAdamW

RECIPES = [AdamW(), MuonWithAdamW()]


def tiny_model(tie_embeddings=True):
    torch.manual_seed(0)
    return Transformer(
        vocabulary_size=11, width=16, layers=2, heads=2, bias=True, norm="layernorm", tie_embeddings=tie_embeddings
    )


def step(model, optimizer, seed):
    torch.manual_seed(seed)
    tokens = torch.randint(0, 11, (2, 8))
    optimizer.zero_grad()
    model.token_nll(model(tokens).flatten(0, 1), tokens.flatten()).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_exactly_one_group(recipe, tied):
    model = tiny_model(tied)
    grouped = [id(one) for group in recipe.build(model).param_groups for one in group["params"]]
    assert sorted(grouped) == sorted(id(one) for one in model.parameters())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: type(one).__name__)
def test_only_matrices_decay(recipe):
    for group in recipe.build(tiny_model()).param_groups:
        assert all((one.ndim >= 2) == (group["weight_decay"] > 0) for one in group["params"])


def test_muon_takes_the_matrices_of_blocks_and_leaves_embeddings_and_head_to_adamw():
    model = tiny_model(tie_embeddings=False)
    optimizer = MuonWithAdamW().build(model)
    assert isinstance(optimizer, CombinedOptimizer)
    muon, adamw = optimizer.parts
    by_muon = {id(one) for group in muon.param_groups for one in group["params"]}
    expected = {id(one) for name, one in model.stack.blocks.named_parameters() if one.ndim == 2}
    assert by_muon == expected
    assert model.head is not None
    assert id(model.head.weight) in {id(one) for group in adamw.param_groups for one in group["params"]}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: type(one).__name__)
def test_a_restored_optimizer_goes_on_as_if_it_had_never_stopped(recipe):
    model = tiny_model()
    optimizer = recipe.build(model)
    for seed in range(3):
        step(model, optimizer, seed)
    twin = copy.deepcopy(model)
    resumed = recipe.build(twin)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, 9)
    step(twin, resumed, 9)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: type(one).__name__)
def test_a_learning_rate_set_on_the_groups_is_the_one_that_is_used(recipe):
    model = tiny_model()
    optimizer = recipe.build(model)
    before = copy.deepcopy(list(model.parameters()))
    for group in optimizer.param_groups:
        assert group[BASE_LEARNING_RATE] == recipe.learning_rate
        group["lr"] = 0.0
    step(model, optimizer, 0)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: type(one).__name__)
def test_training_lowers_the_loss(recipe):
    model = tiny_model()
    optimizer = recipe.build(model)
    tokens = torch.randint(0, 11, (2, 8), generator=torch.Generator().manual_seed(0))

    def loss():
        return model.token_nll(model(tokens).flatten(0, 1), tokens.flatten()).mean()

    before = loss().item()
    for _ in range(60):
        step(model, optimizer, 0)
    assert loss().item() < before
