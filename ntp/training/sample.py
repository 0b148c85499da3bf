"""What a trained model writes at the end of its run."""

import warnings
from typing import NamedTuple

import torch

from ntp.config.errors import ConfigError
from ntp.generation.answer import Request, answer
from ntp.generation.sampling import Sampling
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.training.setup import Setup

PROMPT_TOKENS, TEMPERATURE = 32, 0.8


class Sample(NamedTuple):
    """A text, of which the second part is the model's."""

    before: str
    written: str
    behind: str


def write_sample(setup: Setup, model: LanguageModel, objective: Objective, device: torch.device) -> Sample | None:
    """Continue the beginning of the held-out text, or write again a stretch of it that is hidden.

    Args:
        setup: of the run.
        model, objective: trained and whole.
        device: to write on.

    Returns:
        None where it can't be done, with a warning that says why: no reason to lose a finished run.
    """
    request = _request(setup)
    isolated = setup.config.data.documents == "isolate"
    try:
        model, objective = model.to(device), objective.to(device)
        # A compiled model would compile anew for every length.
        with torch.compiler.set_stance("force_eager"):
            written = answer(model, objective, setup.prepared.tokenizer, request, isolated=isolated).texts[0]
    # Rows too short for a question, predictions that are no numbers, or a whole model too large for one device.
    except (ConfigError, torch.OutOfMemoryError) as error:
        warnings.warn(f"no sample was written: {error}", stacklevel=2)
        return None
    return Sample(request.prefix, written, request.suffix or "")


def _request(setup: Setup) -> Request:
    prepared = setup.prepared
    length, tokens = setup.config.data.sequence_length, setup.config.evaluation.sample_tokens
    prompt = PROMPT_TOKENS
    if setup.objective.attention != "causal":
        # Prompt and answer are read together, and rows longer than those of training are new to the model.
        prompt = min(prompt, max(1, length // 4))
        tokens = max(1, min(tokens, length // 2 - prompt))
    held_out = prepared.validation.tokens[: 2 * prompt + tokens].tolist()
    before = prepared.tokenizer.decode(held_out[:prompt])
    behind = None
    if "continue" not in setup.objective.inference:
        behind = prepared.tokenizer.decode(held_out[prompt + tokens :])
    return Request(before, behind, tokens=tokens, sampling=Sampling(temperature=TEMPERATURE))
