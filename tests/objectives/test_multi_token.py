import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ntp.config.errors import ConfigError
from ntp.config.validation import check_arguments
from ntp.data.collate import collate
from ntp.data.example import IGNORE, Draw, Row
from ntp.data.tokenizers import Bytes
from ntp.models.cache import KVCache
from ntp.models.transformer import Transformer
from ntp.objectives.base import Context
from ntp.objectives.causal import Causal
from ntp.objectives.multi_token import TARGETS, WEIGHT, MultiTokenPrediction

TOKENIZER = Bytes().train()
KINDS = ["sequential", "parallel"]
V, L = 23, 8


def draw(**changes):
    return Draw(**({"seed": 0, "epoch": 0, "row": 0, "stratum": (0, 1), "progress": 0.0} | changes))


def made(model=None, length=L, **options):
    objective = MultiTokenPrediction(**options)
    make_stack = (lambda layers, width: torch.nn.Identity()) if model is None else model.make_stack
    torch.manual_seed(1)
    objective.bind(Context(length, TOKENIZER, width=16, make_stack=make_stack))
    return objective


def model_of(**options):
    torch.manual_seed(0)
    return Transformer(vocabulary_size=V, width=16, layers=2, heads=2, init_std=0.3, **options).eval()


def row_of(tokens, segments=None, sizes=None):
    tokens = np.array(tokens)
    segments = np.zeros_like(tokens) if segments is None else np.array(segments)
    return Row(tokens, segments, np.ones_like(tokens) if sizes is None else np.array(sizes))


def random_row(objective, seed=0, segments=None, length=L):
    return row_of(np.random.default_rng(seed).integers(V, size=objective.raw_length(length)), segments)


def batch_of(objective, rows, progress=0.0, length=L):
    examples = [objective.corrupt(row, draw(progress=progress)) for row in rows]
    return collate(examples, length, "causal", np.ones(V, dtype=np.int64), 0)


def test_every_position_has_the_tokens_behind_the_next_one_as_further_targets():
    example = made(depth=2, length=3).corrupt(row_of([5, 6, 7, 8, 9, 10]), draw())
    assert example.tokens.tolist() == [5, 6, 7]
    assert example.targets.tolist() == [6, 7, 8]
    assert example.extra[TARGETS].tolist() == [[7, 8], [8, 9], [9, 10]]


def test_a_row_of_the_raw_length_has_every_further_target():
    objective = made(depth=3)
    example = objective.corrupt(random_row(objective), draw())
    assert len(example) == L
    assert (example.extra[TARGETS] != IGNORE).all()


def test_a_short_row_is_read_to_its_end_and_its_targets_do_not_wrap_around():
    example = made(depth=2).corrupt(row_of([5, 6, 7, 8], sizes=[1, 2, 4, 8]), draw())
    assert example.tokens.tolist() == [5, 6, 7]
    assert example.targets.tolist() == [6, 7, 8]
    assert example.extra[TARGETS].tolist() == [[7, 8], [8, IGNORE], [IGNORE, IGNORE]]
    assert (example.read_bytes, example.target_bytes.tolist()) == (7, [2, 4, 8])


def test_nothing_is_predicted_across_isolated_documents():
    example = made(depth=2, length=6).corrupt(
        row_of([1, 2, 3, 4, 5, 6, 7, 8, 9], segments=[0, 0, 0, 0, 1, 2, 2, 2, 2]), draw()
    )
    assert example.targets.tolist() == [2, 3, 4, IGNORE, IGNORE, 7]
    none = IGNORE
    assert example.extra[TARGETS].tolist() == [[3, 4], [4, none], [none, none], [none, none], [none, none], [8, 9]]


def test_a_token_behind_another_document_is_no_target():
    example = made(depth=2, length=4).corrupt(row_of([1, 2, 3, 4, 5, 6, 7], segments=[0, 1, 0, 0, 0, 0, 0]), draw())
    assert example.extra[TARGETS].tolist() == [[IGNORE, IGNORE], [IGNORE, IGNORE], [5, 6], [6, 7]]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6), depth=st.integers(1, 4), sequence=st.integers(1, 12)
)
def test_a_further_target_exists_exactly_where_the_document_goes_on_so_far(lengths, depth, sequence):
    objective = made(depth=depth, length=sequence)
    segments = np.repeat(np.arange(len(lengths)), lengths)[: objective.raw_length(sequence)]
    row = row_of(np.arange(100, 100 + len(segments)), segments)
    example = objective.corrupt(row, draw())
    causal = Causal().corrupt(row.part(0, sequence + 1), draw())
    np.testing.assert_array_equal(example.tokens, causal.tokens)
    np.testing.assert_array_equal(example.targets, causal.targets)
    np.testing.assert_array_equal(example.target_bytes, causal.target_bytes)
    for position in range(len(example)):
        for ahead in range(2, depth + 2):
            there = position + ahead < len(row) and segments[position + ahead] == segments[position]
            expected = row.tokens[position + ahead] if there else IGNORE
            assert example.extra[TARGETS][position, ahead - 2] == expected


@pytest.mark.parametrize("length", [1, 2, 3])
def test_tiny_rows_make_tiny_examples(length):
    example = made(depth=3).corrupt(row_of(range(length)), draw())
    assert len(example) == length - 1
    assert example.extra[TARGETS].shape == (length - 1, 3)


def weight_of(objective, **changes):
    return float(objective.corrupt(random_row(objective), draw(**changes)).extra[WEIGHT][0])


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.3), (0.66, 0.3), (0.67, 0.1), (0.99, 0.1)])
def test_the_weight_of_deepseek_falls_at_two_thirds_of_the_run(progress, expected):
    assert weight_of(made(), progress=progress) == pytest.approx(expected)


def test_evaluation_uses_the_final_weight_and_a_run_by_the_clock_keeps_the_first():
    assert weight_of(made(), progress=None, evaluation=True) == pytest.approx(0.1)
    assert weight_of(made(), progress=None) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("options", "first", "final"),
    [
        ({"kind": "parallel", "depth": 3}, 3.0, 3.0),
        ({"weight": 0.5}, 0.5, 0.5),
        ({"weight": 0.5, "final_weight": 0.25}, 0.5, 0.25),
        ({"final_weight": 0.0}, 0.3, 0.0),
    ],
)
def test_weights_that_are_not_given_are_the_papers(options, first, final):
    objective = made(**options)
    assert weight_of(objective, progress=0.0) == pytest.approx(first)
    assert weight_of(objective, progress=0.9) == pytest.approx(final)


@pytest.mark.parametrize("argument", [{"depth": 0}, {"weight": -1.0}, {"switch_at": 1.5}, {"kind": "both"}])
def test_wrong_arguments_are_named(argument):
    node = {"_target_": "ntp.objectives.multi_token.MultiTokenPrediction"} | argument
    with pytest.raises(ConfigError, match=f"objective.{next(iter(argument))}"):
        check_arguments({"objective": node}, {"objective": node}, [])


class Recorder:
    """A model that keeps the hidden states that go through its head: of the main loss, then of each depth."""

    def __init__(self, model):
        self.model, self.scored = model, []

    def __call__(self, *arguments, **keywords):
        return self.model(*arguments, **keywords)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def token_nll(self, hidden, targets, **options):
        self.scored.append(hidden)
        return self.model.token_nll(hidden, targets, **options)


def hidden_states(model, objective, row):
    """[1 + depth, L, D]"""
    recorder = Recorder(model)
    batch = batch_of(objective, [row])
    batch.target_index = None
    objective.loss(recorder, batch)
    return torch.stack(recorder.scored).detach()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("segments", [[0] * 11, [0] * 3 + [1] * 8])
def test_depth_k_sees_the_tokens_up_to_k_ahead_and_parallel_heads_see_none(kind, positions, segments):
    model = model_of(positions=positions, context_length=L)
    objective = made(model, kind=kind, depth=2)
    row = random_row(objective, segments=segments)
    before = hidden_states(model, objective, row)
    for changed in range(len(row)):
        tokens = row.tokens.copy()
        tokens[changed] = (tokens[changed] + 1) % V
        moved = (hidden_states(model, objective, row_of(tokens, segments)) != before).any(-1)
        for depth in range(3):
            reach = depth if kind == "sequential" else 0
            for position in range(L):
                same = segments[position] == segments[changed]
                if position + reach < len(row) and segments[position] != segments[position + reach]:
                    continue  # its target does not exist, and it reads whatever is there
                assert bool(moved[depth, position]) == (same and changed <= position + reach), (depth, position)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_main_one_and_the_weighted_mean_of_the_depths(kind):
    model = model_of()
    objective = made(model, kind=kind, depth=2, weight=0.6)
    rows = [random_row(objective, seed) for seed in range(3)]
    recorder = Recorder(model)
    terms = objective.loss(recorder, batch_of(objective, rows))
    sums = []
    for depth, hidden in enumerate(recorder.scored):
        logits = model.logits(hidden).view(3, L, V)
        expected = [
            torch.nn.functional.cross_entropy(
                logits[line], torch.tensor(row.tokens[1 + depth : 1 + depth + L]), reduction="sum"
            )
            for line, row in enumerate(rows)
        ]
        sums.append(sum(expected))
    assert terms.sum.item() == pytest.approx((sums[0] + 0.6 / 2 * (sums[1] + sums[2])).item(), rel=1e-5)
    assert terms.count == 3 * L
    assert terms.nats.item() == pytest.approx(sums[0].item(), rel=1e-5)
    for depth in (1, 2):
        total, count = terms.metrics[f"depth_{depth}/loss"]
        assert (total.item(), int(count)) == (pytest.approx(sums[depth].item(), rel=1e-5), 3 * L)


def test_every_parallel_head_is_one_layer_on_the_hidden_states_of_the_model():
    model = model_of()
    objective = made(model, kind="parallel", depth=3)
    states = hidden_states(model, objective, random_row(objective))
    for head, state in zip(objective.heads, states[1:], strict=True):
        torch.testing.assert_close(head.stack(states[:1])[0], state)


def test_a_sequential_module_mixes_the_normalised_states_of_the_one_before_with_the_embedding_of_the_token_between():
    model = model_of()
    objective = made(model, depth=2)
    row = random_row(objective)
    states = hidden_states(model, objective, row)
    for ahead, module in enumerate(objective.heads, start=1):
        between = model.token_embedding(torch.from_numpy(row.tokens[ahead : ahead + L]))
        normalised = [
            one * (one.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * norm.weight
            for one, norm in ((states[ahead - 1], module.hidden_norm), (between, module.embedding_norm))
        ]
        mixed = torch.cat(normalised, dim=-1) @ module.projection.weight.T
        torch.testing.assert_close(module.stack(mixed[None])[0], states[ahead])


@pytest.mark.parametrize("kind", KINDS)
def test_the_likelihood_is_that_of_next_token_prediction(kind):
    model = model_of()
    objective = made(model, kind=kind)
    row = random_row(objective, segments=[0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    causal = Causal()
    reference = causal.loss(
        model, collate([causal.corrupt(row.part(0, L + 1), draw())], L, "causal", np.ones(V, dtype=np.int64), 0)
    )
    terms = objective.loss(model, batch_of(objective, [row]))
    assert terms.nats.item() == pytest.approx(reference.sum.item(), rel=1e-6)
    assert (terms.count, terms.bytes) == (reference.count, reference.bytes)


def gradients(model, objective, batches):
    for module in (model, objective):
        module.zero_grad()
    for batch in batches:
        objective.loss(model, batch).sum.backward()
    return {name: one.grad.clone() for part in (model, objective) for name, one in part.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_gradient_and_metrics_do_not_depend_on_the_division_into_micro_batches(kind):
    model = model_of()
    objective = made(model, kind=kind, depth=2)
    rows = [
        random_row(objective, 0, [0] * 4 + [1] * 7),
        row_of([3, 4]),
        random_row(objective, 1, [0] * 11),
        row_of([7, 8, 9, 1, 2]),
    ]
    whole = gradients(model, objective, [batch_of(objective, rows)])
    parts = gradients(model, objective, [batch_of(objective, rows[:1]), batch_of(objective, rows[1:])])
    assert whole.keys() == parts.keys()
    for name, one in whole.items():
        torch.testing.assert_close(parts[name], one, msg=name)
    with torch.no_grad():
        together = objective.loss(model, batch_of(objective, rows)).metrics
        apart = [objective.loss(model, batch_of(objective, [row])).metrics for row in rows]
    for name, (total, count) in together.items():
        assert sum(float(one[name][0]) for one in apart) == pytest.approx(float(total), rel=1e-5), name
        assert sum(int(one[name][1]) for one in apart) == int(count), name


def test_the_gradient_reaches_embeddings_through_the_modules():
    model = model_of(tie_embeddings=False)
    objective = made(model)
    row = random_row(objective)
    row.tokens[:] %= V - 1
    row.tokens[L] = V - 1  # nothing but the module at the last position reads it
    objective.loss(model, batch_of(objective, [row])).sum.backward()
    assert model.token_embedding.weight.grad[V - 1].abs().max() > 0


def test_heads_share_embeddings_and_unembedding():
    model = model_of()
    vocabulary_sized = [one for one in made(model, depth=2).parameters() if V in one.shape]
    assert not vocabulary_sized


@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_is_measured_in_evaluation_only(kind):
    model = model_of()
    objective = made(model, kind=kind)
    batch = batch_of(objective, [random_row(objective, seed) for seed in range(4)])
    assert "depth_1/accuracy" not in objective.train().loss(model, batch).metrics
    recorder = Recorder(model)
    right, count = objective.eval().loss(recorder, batch).metrics["depth_1/accuracy"]
    likeliest = model.logits(recorder.scored[1]).argmax(-1).view(4, L)
    assert int(right) == int((likeliest == batch.extra[TARGETS][..., 0]).sum())
    assert int(count) == 4 * L


def test_a_batch_without_further_targets_is_finite():
    model = model_of()
    objective = made(model, depth=2).eval()
    terms = objective.loss(model, batch_of(objective, [row_of([3, 4])]))
    assert torch.isfinite(terms.sum)
    assert [int(terms.metrics[f"depth_{depth}/loss"][1]) for depth in (1, 2)] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_that_torch_counts(kind):
    model = model_of()
    objective = made(model, kind=kind, depth=2).train()
    rows = [random_row(objective, seed) for seed in range(2)]
    batch = batch_of(objective, rows)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective.loss(model, batch)
    assert counter.get_total_flops() == 2 * objective.forward_flops(model, L, L)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_guesses_do_not_depend_on_how_much_was_guessed_before(kind, depth):
    """Only what holds for certain stays in the caches."""
    model = model_of()
    objective = made(model, kind=kind, depth=depth).eval()
    text = torch.randint(V, (1, 24), generator=torch.Generator().manual_seed(2))
    hidden = model(text)

    def likeliest(logits):
        return logits.argmax(-1)

    with torch.no_grad():
        caches = [KVCache() for _ in range(depth)]
        for known in (2, 3, 7, 8, 9, 15):
            arguments = model, text[:, :known], hidden[:, : known - 1]
            guesses = objective.draft(*arguments, caches, likeliest)
            fresh = objective.draft(*arguments, [KVCache() for _ in range(depth)], likeliest)
            assert guesses.shape == (1, depth)
            assert guesses.tolist() == fresh.tolist()


@settings(max_examples=20)
@given(length=st.integers(2, L), depth=st.integers(1, 3), kind=st.sampled_from(KINDS))
def test_a_guess_is_what_the_head_predicts_in_training(length, depth, kind):
    model = model_of()
    objective = made(model, kind=kind, depth=depth).eval()
    text = torch.randint(V, (1, length + 1), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        hidden = model(text[:, :length])
        guesses = objective.draft(
            model, text, hidden, [KVCache() for _ in range(depth)], lambda logits: logits.argmax(-1)
        )
    row = row_of([*text[0].tolist(), *guesses[0].tolist()])
    recorder = Recorder(model)
    # The last position of a row of this length reads the guesses as if they were the text.
    unpadded = made(model, length=length, kind=kind, depth=depth)
    unpadded.load_state_dict(objective.state_dict())
    unpadded.loss(recorder, batch_of(unpadded, [row], length=length))
    for ahead in range(1, depth + 1):
        assert int(model.logits(recorder.scored[ahead][-1]).argmax()) == int(guesses[0, ahead - 1])


def test_it_is_asked_as_a_causal_model_and_drafts_itself():
    objective = made()
    query = objective.query(np.array([1, 2]), None, 5)
    assert (query.prompt.tolist(), query.attention) == ([1, 2], "causal")
    assert query.drafter is objective
