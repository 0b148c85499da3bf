"""Weights: they are saved, they learn, and the model that they belong to can be compiled."""

from __future__ import annotations

import copy

import numpy as np
import torch

from ntp.objectives.base import LossTerms
from ntp.testing.bench import Bench
from ntp.testing.errors import Broken
from ntp.testing.registry import check

STEPS = 80
LEARNED = 0.5
"""Part of its first loss that a batch must fall to when it is learned by heart."""


@check(quick=True)
def binding_repeats_itself(bench: Bench) -> None:
    """The same seed gives the objective the same weights."""
    first, second = bench.bound(seed=7), bench.bound(seed=7)
    for (name, one), other in zip(first.parameters().items(), second.parameters().values(), strict=True):
        if not torch.equal(one, other):
            raise Broken(f"{name} has other values when it is bound again", "a generator of its own in bind")


@check(quick=True)
def weights_survive_a_checkpoint(bench: Bench) -> None:
    """An objective that loads a state_dict gives the loss of the one that saved it."""
    trained, fresh = bench.bound(seed=1), bench.bound(seed=2)
    batch = bench.batch(trained, bench.mixed_samples(9))
    with torch.no_grad():
        for parameter in trained.parameters().values():
            parameter.add_(0.02 * torch.randn_like(parameter))
        expected = float(trained.loss(batch).sum)
        for ours, theirs in ((fresh.model, trained.model), (fresh.objective, trained.objective)):
            state = copy.deepcopy(theirs.state_dict())
            try:
                ours.load_state_dict(state)
            except RuntimeError as error:
                problem = f"the state_dict of a bound objective does not load into another: {error}"
                raise Broken(problem, "weights that are made elsewhere than in bind") from error
        found = float(fresh.loss(batch).sum)
    if not np.isclose(found, expected, rtol=1e-6, atol=1e-6):
        problem = f"the loss of a batch was {expected:.8g}, and is {found:.8g} after its weights were saved and loaded"
        hint = "a module that is kept in a plain list, dict or tuple: nn.ModuleList and nn.ModuleDict are saved"
        raise Broken(problem, hint)


@check()
def a_batch_can_be_learned_by_heart(bench: Bench) -> None:
    """The loss of one batch falls well below its start when a tiny model trains on it."""
    for subject in bench.subjects:
        batch = bench.batch(subject, bench.full_samples("isolate", 4))
        parameters = list(subject.parameters().values())
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
        losses = []
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * min(1.0, (step + 1) / 10)
            optimizer.zero_grad()
            loss = subject.loss(batch).sum / max(1, batch.count)
            losses.append(float(loss.detach()))
            if not loss.requires_grad or losses[-1] < LEARNED * losses[0]:
                break
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        first, last = losses[0], losses[-1]
        if not last < LEARNED * first:
            problem = f"the loss of four rows is {first:.4g} at first, and {last:.4g} after {STEPS} steps"
            hint = "the sign of the loss, a detach on its way, or targets that have nothing to do with the row"
            raise Broken(f"{problem} ({subject.label})", hint)


@check(slow=True)
def the_model_can_be_compiled(bench: Bench) -> None:
    """With a model that is traced by torch.compile the loss is the same.

    The backend is ``aot_eager``: forward and backward are traced, and no code is generated.
    """
    subject, compiled = bench.bound(), bench.bound()
    compiled.model.compile(backend="aot_eager")
    try:
        for count in (6, 9):
            batch = bench.batch(subject, bench.mixed_samples(count))
            expected, found = subject.loss(batch), compiled.loss(batch)
            _compare(expected, found)
            expected.sum.backward()
            found.sum.backward()
    finally:
        torch._dynamo.reset()
    for (name, one), other in zip(subject.parameters().items(), compiled.parameters().values(), strict=True):
        both = [parameter.grad for parameter in (one, other)]
        if both[0] is not None and (both[1] is None or not torch.allclose(both[0], both[1], rtol=1e-3, atol=1e-3)):
            raise Broken(f"the gradient of {name} is another one with a compiled model", "what loss does to the graph")


def _compare(expected: LossTerms, found: LossTerms) -> None:
    before, after = float(expected.sum.detach()), float(found.sum.detach())
    if not np.isclose(before, after, rtol=1e-4, atol=1e-4):
        problem = f"the loss of a batch is {before:.6g}, and {after:.6g} with a compiled model"
        raise Broken(problem, "arguments of the model that are no tensors, and change from call to call")
