from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ntp.data.datasets import BatchMaker
from ntp.data.example import IGNORE, Batch, Draw, Row
from ntp.data.special_tokens import MASK
from ntp.data.tokenizers import Bytes
from ntp.models.transformer import Transformer
from ntp.objectives import replaced_token
from ntp.objectives.base import Context, LossTerms
from ntp.objectives.replaced_token import ReplacedTokenDetection

BYTES = Bytes().train()
MASK_ID, END = BYTES.special_tokens[MASK], BYTES.end_of_text
LENGTH = 24


def built(length: int = LENGTH, **arguments: Any) -> tuple[Transformer, ReplacedTokenDetection]:
    """A tiny model whose weights are large enough to matter, and the objective bound to it."""
    torch.manual_seed(0)
    shape = {"vocabulary_size": BYTES.vocabulary_size, "width": 32, "layers": 2, "heads": 2, "init_std": 0.2}
    model = Transformer(**(shape | arguments.pop("model", {})))
    objective = ReplacedTokenDetection(**({"generator_layers": 2} | arguments))
    objective.bind(Context(length, BYTES, model.width, make_stack=model.make_stack))
    return model, objective


def make_row(tokens, isolate: bool = False) -> Row:
    tokens = np.asarray(tokens, dtype=np.int64)
    ends = tokens == END
    segments = np.cumsum(ends) - ends if isolate else np.zeros_like(tokens)
    return Row(tokens, segments, BYTES.token_bytes[tokens])


def random_row(length: int, seed: int = 0) -> Row:
    return make_row(np.random.default_rng(seed).choice(BYTES.text_ids, length))


def draw(row: int = 0) -> Draw:
    return Draw(seed=1, epoch=0, row=row, stratum=(0, 1))


def make_batch(objective: ReplacedTokenDetection, rows: list[Row], length: int = LENGTH, first: int = 0) -> Batch:
    maker = BatchMaker(objective, length, BYTES.token_bytes, BYTES.padding)
    return maker([(row, draw(number)) for number, row in enumerate(rows, start=first)])


class Listener(nn.Module):
    """A model that remembers what it reads."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model
        self.embed, self.logits, self.token_nll = model.embed, model.logits, model.token_nll

    def forward(self, tokens: Tensor, **keywords: Any) -> Tensor:
        self.read = tokens
        self.hidden = self.model(tokens, **keywords)
        return self.hidden


def gradients(terms: LossTerms, *modules: nn.Module) -> list[Tensor]:
    parameters = [one for module in modules for one in module.parameters()]
    found = torch.autograd.grad(terms.sum, parameters, allow_unused=True)
    return [
        torch.zeros_like(one) if gradient is None else gradient for gradient, one in zip(found, parameters, strict=True)
    ]


def mean(terms: LossTerms, name: str) -> float:
    total, count = terms.metrics[name]
    return float(total.detach()) / float(count)


# -- rows --


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("length", [1, 3, 10, 24])
def test_exactly_the_rate_of_each_rows_text_is_selected_and_at_least_one(rate, length):
    _, objective = built(rate=rate)
    row = make_row([*BYTES.encode("x" * length), END, END])
    for one in range(5):
        selected = objective.corrupt(row, draw(one)).targets != IGNORE
        assert selected.sum() == max(1, round(rate * length))
        assert not selected[-2:].any()


def test_every_token_is_selected_equally_often():
    _, objective = built(rate=0.25)
    row, draws = random_row(8), 2000
    counts = sum((objective.corrupt(row, draw(one)).targets != IGNORE).astype(int) for one in range(draws))
    assert (np.abs(counts - draws / 4) < 4.5 * np.sqrt(draws * 0.25 * 0.75)).all()


def test_the_generator_reads_most_of_them_as_the_mask_token_and_the_others_as_they_are():
    _, objective = built(rate=0.5)
    row = random_row(20_000)
    example = objective.corrupt(row, draw())
    selected = example.targets != IGNORE
    masked = example.tokens == MASK_ID
    assert abs(masked.sum() - 8500) < 4.5 * np.sqrt(10_000 * 0.85 * 0.15)
    assert not masked[~selected].any()
    np.testing.assert_array_equal(example.tokens[~masked], row.tokens[~masked])
    np.testing.assert_array_equal(objective.restore(example), row.tokens)
    np.testing.assert_array_equal(example.target_bytes, np.where(selected, row.bytes, 0))


def test_the_same_draw_gives_the_same_example_with_the_same_numbers_to_guess_with():
    _, objective = built()
    row = random_row(LENGTH)
    first, again, other = (objective.corrupt(row, draw(one)) for one in (0, 0, 1))
    np.testing.assert_array_equal(first.tokens, again.tokens)
    np.testing.assert_array_equal(first.extra["guess_uniform"], again.extra["guess_uniform"])
    assert (first.extra["guess_uniform"] != other.extra["guess_uniform"]).all()


def test_a_row_without_text_selects_nothing():
    _, objective = built()
    example = objective.corrupt(make_row([END, END], isolate=True), draw())
    assert (example.targets == IGNORE).all()
    assert example.tokens.tolist() == [END, END]


# -- guesses --


def test_guesses_are_drawn_from_the_softmax_over_text():
    model, objective = built()
    hidden, draws = 2 * torch.randn(1, 32), 20_000
    probabilities = model.logits(hidden)[0, objective.text_ids_T].double().softmax(0)
    # One number in the middle of each of so many equal parts of [0, 1): no id can be off by more than one.
    numbers = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    guesses = objective.sample(model, hidden.expand(draws, -1), numbers)
    counts = torch.bincount(guesses, minlength=BYTES.vocabulary_size)
    assert counts[objective.text_ids_T].sum() == draws
    assert (counts[objective.text_ids_T] - draws * probabilities).abs().max() <= 1.0
    assert (counts > 0).sum() > 20


def test_a_special_token_is_never_guessed_however_likely():
    model, objective = built()
    with torch.no_grad():
        model.token_embedding.weight[MASK_ID] = 100.0
    hidden = torch.ones(500, 32)
    assert model.logits(hidden).argmax(1).unique().tolist() == [MASK_ID]
    guesses = objective.sample(model, hidden, torch.rand(500, dtype=torch.float64))
    assert np.isin(guesses.numpy(), BYTES.text_ids).all()


def test_guesses_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    model, objective = built()
    hidden, numbers = torch.randn(100, 32), torch.rand(100, dtype=torch.float64)
    together = objective.sample(model, hidden, numbers)
    monkeypatch.setattr(replaced_token, "SHARES_LIMIT", 7 * 256)
    assert torch.equal(objective.sample(model, hidden, numbers), together)


@pytest.mark.parametrize("number", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_range_of_numbers_give_tokens_of_some_probability(number):
    model, objective = built()
    with torch.no_grad():
        model.token_embedding.weight[BYTES.text_ids[0]] = -100.0
    guess = objective.sample(model, torch.ones(1, 32), torch.tensor([number], dtype=torch.float64))
    assert guess.item() in BYTES.text_ids[1:]


def test_the_discriminator_reads_the_text_with_guesses_in_place_of_selected_tokens_and_no_mask():
    model, objective = built(rate=0.4)
    rows = [random_row(LENGTH, seed) for seed in range(4)]
    batch, listener = make_batch(objective, rows), Listener(model)
    terms = objective.loss(listener, batch)
    original = torch.tensor(np.stack([row.tokens for row in rows]))
    selected = batch.targets != IGNORE
    assert (batch.tokens == MASK_ID).any()
    assert not (listener.read == MASK_ID).any()
    assert torch.equal(listener.read[~selected], original[~selected])
    differ = (listener.read != original).sum()
    assert 0 < differ <= selected.sum()
    assert mean(terms, "replaced_fraction") == pytest.approx(float(differ) / (4 * LENGTH))


def test_a_guess_that_is_right_is_no_replacement(monkeypatch):
    model, objective = built(rate=0.4)
    batch = make_batch(objective, [random_row(LENGTH)])
    monkeypatch.setattr(objective, "sample", lambda *_: batch.targets.flatten()[batch.target_index])
    terms = objective.loss(listener := Listener(model), batch)
    assert terms.metrics["replaced_fraction"][0] == 0
    scores = objective.detector(listener.hidden).squeeze(-1)
    expected = F.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores))
    assert mean(terms, "discriminator_loss") == pytest.approx(expected.item(), rel=1e-5)


# -- the loss --


def test_the_loss_is_the_generators_mean_and_the_weighted_mean_of_the_discriminator():
    model, objective = built(rate=0.3)
    batch = make_batch(objective, [random_row(LENGTH, seed) for seed in range(3)])
    terms = objective.loss(listener := Listener(model), batch)

    narrow = objective.generator(objective.generator_input(model.embed(batch.tokens)), attention="full")
    selected = batch.targets != IGNORE
    generator = F.cross_entropy(model.logits(objective.generator_output(narrow[selected])), batch.targets[selected])
    scores = objective.detector(model(listener.read, attention="full")).squeeze(-1)
    original = torch.where(selected, batch.targets, batch.tokens)
    discriminator = F.binary_cross_entropy_with_logits(scores, (listener.read != original).float())
    torch.testing.assert_close(terms.sum / terms.count, generator + 50 * discriminator)
    assert terms.count == selected.sum()
    assert terms.bytes == 0
    assert mean(terms, "generator_nll") == pytest.approx(generator.item(), rel=1e-5)
    assert mean(terms, "discriminator_loss") == pytest.approx(discriminator.item(), rel=1e-5)


def test_its_metrics_count_what_is_found():
    model, objective = built(rate=0.4)
    batch = make_batch(objective, [random_row(LENGTH, 0), random_row(9, 1)])
    terms = objective.loss(listener := Listener(model), batch)
    real = batch.segments >= 0
    original = torch.where(batch.targets == IGNORE, batch.tokens, batch.targets)
    replaced = (listener.read != original) & real
    found = (objective.detector(listener.hidden).squeeze(-1) > 0) & real
    assert 0 < found.sum() < LENGTH + 9
    assert mean(terms, "accuracy") == pytest.approx(float((found == replaced)[real].float().mean()))
    assert mean(terms, "precision") == pytest.approx(float(replaced[found].float().mean()))
    assert mean(terms, "recall") == pytest.approx(float(found[replaced].float().mean()))


def test_no_gradient_goes_through_a_guess_to_the_generator():
    model, objective = built(rate=0.4)
    batch = make_batch(objective, [random_row(LENGTH)])
    generator = (objective.generator_input, objective.generator, objective.generator_output)
    with_discriminator = gradients(objective.loss(model, batch), *generator)
    embedding = gradients(objective.loss(model, batch), model.token_embedding)[0]
    objective.discriminator_weight = 0.0
    without = gradients(objective.loss(model, batch), *generator)
    for one, other in zip(with_discriminator, without, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other)
    # The embeddings are the discriminator's own, too.
    assert (embedding - gradients(objective.loss(model, batch), model.token_embedding)[0]).abs().max() > 0.01


@pytest.mark.parametrize("isolate", [False, True])
def test_splitting_into_micro_batches_changes_neither_loss_nor_gradient(isolate):
    model, objective = built(rate=0.3)
    text = [*BYTES.encode("abc def"), END, *BYTES.encode("ghi"), END]
    rows = [random_row(LENGTH), make_row(text, isolate), make_row([END]), make_row(BYTES.encode("q")), random_row(7)]
    whole = objective.loss(model, make_batch(objective, rows))
    expected = gradients(whole, model, objective)
    parts = [
        objective.loss(model, make_batch(objective, rows[begin:end], first=begin))
        for begin, end in ((0, 1), (1, 3), (3, 5))
    ]
    assert sum(one.count for one in parts) == whole.count
    torch.testing.assert_close(sum(one.sum for one in parts), whole.sum)
    for name, (total, count) in whole.metrics.items():
        torch.testing.assert_close(sum(one.metrics[name][0].detach() for one in parts), total.detach(), msg=name)
        assert sum(int(one.metrics[name][1]) for one in parts) == int(count), name
    split = [sum(one) for one in zip(*(gradients(part, model, objective) for part in parts), strict=True)]
    for one, other in zip(split, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing():
    model, objective = built(rate=0.3)
    row = random_row(9)
    tight = objective.loss(model, make_batch(objective, [row], length=9))
    padded = objective.loss(model, make_batch(objective, [row], length=20))
    torch.testing.assert_close(tight.sum, padded.sum)
    assert mean(tight, "accuracy") == mean(padded, "accuracy")


@pytest.mark.parametrize("tokens", [[END], [END, END, END]])
def test_a_batch_without_any_text_has_a_loss_of_zero_that_reaches_every_weight(tokens):
    model, objective = built(model={"tie_embeddings": False})
    terms = objective.loss(model, make_batch(objective, [make_row(tokens, isolate=True)]))
    terms.sum.backward()
    assert (terms.sum.item(), terms.count) == (0.0, 0)
    for name, one in [*model.named_parameters(), *objective.named_parameters()]:
        assert one.grad is not None, name
        assert not one.grad.any(), name


@pytest.mark.parametrize("isolate", [False, True])
def test_it_trains_in_bfloat16(isolate):
    model, objective = built()
    batch = make_batch(objective, [make_row([*BYTES.encode("abc d"), END, *BYTES.encode("efg")], isolate)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = objective.loss(model, batch)
    assert terms.sum.dtype == torch.float32
    assert all(gradient.isfinite().all() for gradient in gradients(terms, model, objective))


def test_rows_weigh_what_they_should_where_new_tensors_are_bfloat16():
    model, objective = built()
    batch = make_batch(objective, [make_row(BYTES.encode("some letters")), make_row(BYTES.encode("of two rows"))])
    expected = objective.loss(model, batch).sum
    torch.set_default_dtype(torch.bfloat16)
    try:
        loss = objective.loss(model, batch).sum
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(loss, expected)


def test_it_learns_to_tell_guesses_from_a_text_that_it_knows():
    model, objective = built(model={"init_std": 0.05})
    batch = make_batch(objective, [make_row(BYTES.encode("the same old text again."))] * 4)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=3e-3)
    losses, nlls = [], []
    for _ in range(120):
        terms = objective.loss(model, batch)
        optimizer.zero_grad()
        (terms.sum / terms.count).backward()
        optimizer.step()
        losses.append(mean(terms, "discriminator_loss"))
        nlls.append(mean(terms, "generator_nll"))
    # Guesses change as the generator learns, so the discriminator's loss is not smooth.
    assert np.mean(losses[-20:]) < 0.3 * losses[0]
    assert np.mean(nlls[-20:]) < 0.5 * nlls[0]


# -- parts and cost --


@pytest.mark.parametrize(
    ("width", "fraction", "expected"), [(32, 0.25, 8), (256, 1 / 3, 88), (100, 0.25, 24), (8, 0.25, 8), (100, 1.0, 96)]
)
def test_the_generator_is_as_wide_as_asked_for_in_multiples_of_eight(width, fraction, expected):
    model = Transformer(BYTES.vocabulary_size, width=width, layers=1, heads=2)
    objective = ReplacedTokenDetection(generator_fraction=fraction, generator_layers=3)
    objective.bind(Context(LENGTH, BYTES, width, make_stack=model.make_stack))
    assert objective.generator_input.out_features == expected
    assert len(objective.generator.blocks) == 3
    assert objective.loss(model, make_batch(objective, [random_row(LENGTH)])).sum.isfinite()


def test_it_keeps_nothing_in_a_checkpoint_but_weights():
    _, objective = built()
    assert set(objective.state_dict()) == {name for name, _ in objective.named_parameters()}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("shape", [{}, {"tie_embeddings": False, "bias": True, "activation": "gelu"}])
def test_its_flops_are_those_that_torch_counts(backward, shape):
    model, objective = built(model=shape)
    batch = make_batch(objective, [random_row(LENGTH, 0), random_row(LENGTH, 1)])
    # The fused kernel of the CPU is unknown to torch's counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        terms = objective.loss(model, batch)
        if backward:
            terms.sum.backward()
    targets = batch.tallies[0].targets
    expected = (
        objective.training_flops(model, batch) if backward else 2 * objective.forward_flops(model, LENGTH, targets)
    )
    assert counter.get_total_flops() == expected
