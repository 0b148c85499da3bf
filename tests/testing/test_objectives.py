"""Every objective of ntp, as users compose it, passes every check. A new YAML file is tested without further ado."""

from functools import partial
from pathlib import Path

import hydra
import ntp.conf
import pytest
from omegaconf import OmegaConf

from ntp.config import resolvers, search_path
from ntp.testing import NotApplicable, iter_checks
from ntp.training.setup import build_objective

OBJECTIVES = sorted(path.stem for path in (Path(ntp.conf.__path__[0]) / "objective").glob("*.yaml"))
MAY_NOT_APPLY = {
    "queries_are_well_formed",
    "draws_differ",
    "promises_are_kept",
    "attention_is_the_cheapest",
    "the_end_of_a_text_is_learned",
    "a_uniform_model_loses_ln_v",
    *(check.name for check in iter_checks() if check.theme == "answers"),
}
"""Checks of what an objective need not have: inference, randomness, promises, a likelihood, an order, answers."""


def composed(name: str, *overrides: str):
    """The objective, not bound, as ``objective=<name>`` makes it."""
    resolvers.register()
    search_path.register()
    with hydra.initialize_config_module("ntp.conf", version_base="1.3"):
        config = hydra.compose("train", overrides=[f"objective={name}", *overrides])
    node = OmegaConf.to_container(config, resolve=True)["objective"]
    return partial(build_objective, node, [])


@pytest.fixture(scope="module", params=OBJECTIVES)
def objective(request):
    return composed(request.param)


CHECKS = [pytest.param(check, id=str(check), marks=[pytest.mark.slow] * check.slow) for check in iter_checks()]


@pytest.mark.parametrize("check", CHECKS)
def test_every_objective_passes_every_check(objective, check):
    try:
        check(objective)
    except NotApplicable:
        assert check.name in MAY_NOT_APPLY


VARIANTS = {
    "mlm, whole words": ("mlm", "objective.unit=whole_word"),
    "mlm, spans": ("mlm", "objective.unit=span"),
    "fim, tokens": ("fim", "objective.unit=token"),
    "fim, documents": ("fim", "objective.level=document"),
    "span_corruption, rolled": ("span_corruption", "objective.random_roll=true"),
    "multi_token, parallel": ("multi_token", "objective.kind=parallel", "objective.depth=2"),
    "block_diffusion, blocks of one": ("block_diffusion", "objective.block_size=1"),
    "prefix_lm, fixed": ("prefix_lm", "objective.fraction=0.5"),
    "permutation, all tokens": ("permutation", "objective.predict_one_in=1"),
    "masked_diffusion, no subs": ("masked_diffusion", "objective.subs=false"),
    "fim, never moved": ("fim", "objective.rate=0"),
    "fim, suffix first": ("fim", "objective.spm_rate=1"),
    "block_diffusion, small blocks": ("block_diffusion", "objective.block_size=3"),
    "prefix_lm, mode": ("prefix_lm", "objective.mode_token='<|mode_s|>'"),
    "span_corruption, mode": ("span_corruption", "objective.mode_token='<|mode_r|>'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_arguments_pass_the_checks_too(variant):
    from ntp.testing import check_objective

    name, *overrides = VARIANTS[variant]
    names = [check.name for check in iter_checks() if not check.slow]
    assert check_objective(composed(name, *overrides), checks=names).passed
