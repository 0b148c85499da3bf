"""The loss: sums and counts that do not depend on how rows are divided."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ntp.data.example import IGNORE, Batch, Example
from ntp.objectives.base import LossTerms
from ntp.testing.bench import BATCH, REGIMES, Bench, Sample, Subject
from ntp.testing.errors import Broken, NotApplicable
from ntp.testing.registry import check
from ntp.testing.shapes import tiny_samples


@check(quick=True)
def loss_terms_are_sound(bench: Bench) -> None:
    """The loss is a finite sum, connected to the weights, with the count of its batch."""
    for subject in bench.subjects:
        objective = subject.objective
        batch = bench.batch(subject, bench.mixed_samples(12))
        terms = subject.loss(batch)
        if not isinstance(terms, LossTerms):
            raise Broken(f"loss returns {type(terms).__name__}", "loss, which returns LossTerms")
        if terms.sum.dim() or terms.sum.dtype != torch.float32:
            problem = f"the sum of the loss is {terms.sum.dtype} of shape {tuple(terms.sum.shape)}"
            raise Broken(problem, "LossTerms.sum: one float32 number")
        if not bool(terms.sum.isfinite()):
            raise Broken(f"the sum of the loss is {_number(terms.sum)}", "logarithms of 0, or divisions by it")
        if not terms.sum.requires_grad:
            raise Broken("the loss has no gradient", "detach, item or no_grad on its way")
        if int(terms.count) != batch.count:
            problem = f"the loss has a count of {int(terms.count)}, and the batch of {batch.count}"
            raise Broken(problem, "LossTerms.count; what a row adds beside its targets is Example.count")
        spoken = objective.likelihood in ("exact", "bound", "pseudo")
        if spoken and int(terms.bytes) != batch.target_bytes:
            problem = f"the loss speaks for {int(terms.bytes)} bytes, and the batch for {batch.target_bytes}"
            raise Broken(problem, "LossTerms.bytes, which is batch.target_bytes")
        if not spoken and int(terms.bytes):
            problem = f"the loss is no likelihood, and speaks for {int(terms.bytes)} bytes of text"
            raise Broken(problem, "LossTerms.bytes, 0 where there is no likelihood")
        parts = {"nats": terms.nats} if terms.nats is not None else {}
        for name, pair in terms.metrics.items():
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise Broken(f"metric '{name}' is {pair!r}", "metrics, each a pair of sum and count")
            parts[f"metric '{name}'"] = pair[0]
            if _number(pair[1]) < 0:
                raise Broken(f"metric '{name}' has a count of {_number(pair[1])}", "metrics")
        for name, value in parts.items():
            if not np.isfinite(_number(value)):
                raise Broken(f"{name} is {_number(value)}", f"{name}, which is a sum, never a mean")


def _number(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


@check(quick=True)
def loss_repeats_itself(bench: Bench) -> None:
    """The loss of a batch is the same whenever it is computed, whatever was drawn before, in training too."""
    for subject in bench.subjects:
        batch = bench.batch(subject, bench.mixed_samples(9))
        has_dropout = any(isinstance(one, nn.Dropout) and one.p > 0 for one in subject.objective.modules())
        values = []
        with torch.no_grad():
            for seed, training in ((0, False), (0, False), (1, False), (1, True)):
                if training and has_dropout:
                    continue
                torch.manual_seed(seed)
                subject.objective.train(training)
                values.append(float(subject.loss(batch).sum))
        subject.objective.eval()
        for value, how in zip(values[1:], ("a second time", "under another seed", "in training mode"), strict=False):
            if not np.isclose(value, values[0], rtol=1e-6, atol=1e-6):
                problem = f"the loss of one batch is {values[0]:.8g}, and {value:.8g} {how} ({subject.label})"
                hint = "a draw inside of loss, or a state that it leaves behind: draw in corrupt, carry it in extra"
                raise Broken(problem, hint)


@check(quick=True)
def splitting_changes_nothing(bench: Bench) -> None:
    """Loss, count and gradient of a batch are the sums of those of its parts, in any order."""
    for subject in bench.subjects:
        samples = bench.mixed_samples(9)[:8]
        examples = [subject.objective.corrupt(one.row, one.draw) for one in samples]
        whole, gradient = _with_gradient(bench, subject, [examples])
        size = torch.cat([one.flatten() for one in gradient.values()]).norm()
        last = len(examples)
        divisions = {
            "row by row": [[one] for one in examples],
            "in two unequal parts": [examples[:3], examples[3:]],
            "in reverse order": [examples[::-1]],
        }
        for how, parts in divisions.items():
            terms, other = _with_gradient(bench, subject, parts)
            for name, value in whole.items():
                if not np.isclose(terms.get(name, 0.0), value, rtol=2e-4, atol=2e-4):
                    problem = f"{name} of {last} rows is {value:.6g}, and {terms.get(name, 0.0):.6g} {how}"
                    hint = "a mean, or a division by a number of the batch: return sums and counts, and divide nothing"
                    raise Broken(f"{problem} ({subject.label})", hint)
            if gradient.keys() != other.keys():
                name = sorted(gradient.keys() ^ other.keys())[0]
                raise Broken(f"{name} has a gradient only from some divisions of a batch", "branches in loss")
            for name, one in gradient.items():
                if float((one - other[name]).norm()) > 1e-3 * float(size):
                    problem = f"the gradient of {name} is another one {how} ({subject.label})"
                    raise Broken(problem, "what rows of a batch share: means, norms over the batch, sorted rows")


def _with_gradient(
    bench: Bench, subject: Subject, parts: Sequence[Sequence[Example]]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Sums of the terms of several micro-batches, and of their gradients."""
    parameters = subject.parameters()
    totals: dict[str, float] = {}
    for one in parameters.values():
        one.grad = None
    for examples in parts:
        terms = subject.loss(bench.collated(subject, examples))
        if terms.sum.requires_grad:
            terms.sum.backward()
        values = {"the loss": terms.sum, "the count": terms.count, "the number of bytes": terms.bytes}
        if terms.nats is not None:
            values["the nats"] = terms.nats
        for name, (total, count) in terms.metrics.items():
            values |= {f"the sum of metric '{name}'": total, f"the count of metric '{name}'": count}
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + _number(value)
    gradients = {name: one.grad.clone() for name, one in parameters.items() if one.grad is not None}
    for one in parameters.values():
        one.grad = None
    return totals, gradients


@check(quick=True)
def no_targets_no_loss(bench: Bench) -> None:
    """A batch without any target has a finite loss with a gradient for every weight that has one otherwise."""
    for subject in bench.subjects:
        ordinary = _gradients(bench, subject, bench.mixed_samples(9))
        if unused := sorted(name for name in subject.parameters() if name.startswith("objective.")):
            unused = [name for name in unused if name not in ordinary]
            if unused:
                problem = f"{unused[0]} has no gradient from any row"
                raise Broken(problem, "a weight that loss does not use, or uses behind a detach")
        for place, example in _without_targets(bench, subject):
            batch = bench.collated(subject, [example])
            terms = subject.loss(batch)
            value = _number(terms.sum)
            if not np.isfinite(value):
                problem = f"{place}: the loss is {value}, with {batch.target_count} targets"
                raise Broken(problem, "a mean over no targets, which is not a number; a sum over none is 0")
            if batch.target_count == 0 and batch.count == 0 and value != 0:
                problem = f"{place}: without a target the loss is {value:.6g}"
                raise Broken(problem, "a term that is added whether there are targets or not")
            if not terms.sum.requires_grad:
                problem = f"{place}: with {batch.target_count} targets the loss has no gradient"
                raise Broken(problem, "an early return; devices that wait for each other's gradients would hang")
            reached = _with_gradient(bench, subject, [[example]])[1]
            if missing := sorted(ordinary.keys() - reached.keys()):
                problem = f"{place}: {missing[0]} has no gradient, which it has from other rows"
                raise Broken(problem, "a branch in loss: compute with empty tensors instead of leaving out")
            for name, gradient in reached.items():
                if not bool(gradient.isfinite().all()):
                    raise Broken(f"{place}: the gradient of {name} is not finite", "0 times infinity, or 0 / 0")


def _without_targets(bench: Bench, subject: Subject) -> Iterator[tuple[str, Example]]:
    """Examples that may have no target, and where they come from; at least one that has none, if that can be made."""
    made = [
        (sample, documents, subject.objective.corrupt(sample.row, sample.draw))
        for documents in REGIMES
        for sample in tiny_samples(bench, documents)
        if not sample.draw.evaluation
    ]
    for sample, documents, example in made:
        yield f"a row of the tokens {sample.row.tokens.tolist()} (documents {documents}d)", example
    if not any((example.targets == IGNORE).all() for _, _, example in made):
        for _, _, example in made[:2]:
            if not example.extra:
                nothing = np.zeros(len(example))
                weights = None if example.weights is None else nothing
                yield (
                    f"a row of {len(example)} positions whose targets were taken away",
                    replace(example, targets=np.full(len(example), IGNORE), weights=weights),
                )


def _gradients(bench: Bench, subject: Subject, samples: Sequence[Sample]) -> dict[str, Tensor]:
    examples = [subject.objective.corrupt(one.row, one.draw) for one in samples]
    return _with_gradient(bench, subject, [examples])[1]


@check()
def a_uniform_model_loses_ln_v(bench: Bench) -> None:
    """Where the loss is a likelihood, a model that knows nothing loses ln V for each token that it is divided by."""
    objective = bench.subject.objective
    if objective.likelihood not in ("exact", "bound"):
        raise NotApplicable(f"the loss is of kind '{objective.likelihood}'")
    subject = bench.bound()
    with torch.no_grad():
        for parameter in subject.parameters().values():
            parameter.zero_()
    for evaluation in (False, True):
        excess, counts = [], []
        for number in range(24):
            samples = _global_batch(bench, number, evaluation)
            batch = bench.batch(subject, samples)
            listener = _Listener(subject.model)
            with torch.no_grad():
                terms = subject.loss(batch, listener)
            if not listener.nll:
                continue
            nats = _number(terms.sum if terms.nats is None else terms.nats)
            excess.append(nats / max(listener.nll) - int(terms.count))
            counts.append(int(terms.count))
        if not counts or not sum(counts):
            raise NotApplicable("the loss asks the model's head nothing")
        off, scale = float(np.mean(excess)), float(np.mean(counts))
        error = float(np.std(excess) / np.sqrt(len(excess)))
        if abs(off) > 5 * error + 1e-3 * scale:
            how = "evaluation" if evaluation else "training"
            problem = (
                f"in rows drawn for {how} a uniform model loses {1 + off / scale:.4f} times ln V for each token that "
                f"the loss is divided by (standard error {error / scale:.4f})"
            )
            hint = "what divides: Example.count must be all tokens that the weights speak for, not those hidden alone"
            raise Broken(problem, hint)


def _global_batch(bench: Bench, number: int, evaluation: bool) -> list[Sample]:
    """Rows of both regimes, as one global batch with all of its strata."""
    documents = REGIMES[number % 2]
    every = bench.samples(documents, 10**6, evaluation=evaluation, epoch=number)
    rng = np.random.default_rng(number)
    chosen = [every[index] for index in rng.integers(len(every), size=2 * BATCH)]
    return [
        one.redrawn(row=1000 * place + one.draw.row, stratum=(place, 2 * BATCH)) for place, one in enumerate(chosen)
    ]


class _Listener:
    """A model that notes the largest loss of a single target."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nll: list[float] = []

    def __call__(self, *arguments: Any, **fields: Any) -> Any:
        return self.model(*arguments, **fields)

    def token_nll(self, hidden: Tensor, targets: Tensor, *, excluded: int | None = None) -> Tensor:
        """The model's."""
        nll: Tensor = self.model.token_nll(hidden, targets, excluded=excluded)
        if len(nll):
            self.nll.append(float(nll.max()))
        return nll

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


@check()
def low_precision_stays_finite(bench: Bench) -> None:
    """In bfloat16 the loss and its gradients are finite, and close to those of float32."""
    subject = bench.bound()
    batch: Batch = bench.batch(subject, bench.mixed_samples(9))
    with torch.no_grad():
        exact = float(subject.loss(batch).sum)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = subject.loss(batch)
    rounded = _number(terms.sum)
    if not np.isclose(rounded, exact, rtol=0.1, atol=1.0):
        problem = f"the loss of a batch is {exact:.6g} in float32, and {rounded:.6g} in bfloat16"
        raise Broken(problem, "logits, exponentials or long sums that are not computed in float32")
    terms.sum.backward()
    for name, one in subject.parameters().items():
        if one.grad is not None and not bool(one.grad.isfinite().all()):
            raise Broken(f"in bfloat16 the gradient of {name} is not finite", "a division or a logarithm near 0")
