"""``ntp generate``: write text with a trained run."""

import sys

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from ntp.config.errors import ConfigError
from ntp.config.schema import GenerateConfig
from ntp.config.validation import resolve, validate
from ntp.generation.sampling import Sampling
from ntp.generation.text import continue_text
from ntp.tracking.tree import print_config
from ntp.training.load import choose_device, load_run


def run(config: DictConfig) -> list[str]:
    """Print the prompt and what the run makes of it.

    Returns:
        The continuations.

    Raises:
        ConfigError: there is no such run, or its objective cannot continue a text.
    """
    typed = validate(config, GenerateConfig)
    if typed.print_config:
        print_config(resolve(config))
    device = choose_device(typed.accelerator)
    trained = load_run(typed.run, typed.checkpoint, typed.allow_targets, device)
    can = trained.objective.inference
    if "continue" not in can:
        raise ConfigError(
            "prompt", f"this run's objective cannot continue a text; it can: {', '.join(can) or 'nothing'}"
        )
    sampling = Sampling(
        greedy=typed.greedy,
        temperature=typed.temperature,
        top_k=typed.top_k,
        top_p=typed.top_p,
        min_p=typed.min_p,
        repetition_penalty=typed.repetition_penalty,
    )
    stream = (sys.stdout.isatty() if typed.stream is None else typed.stream) and typed.samples == 1
    console = Console(highlight=False, soft_wrap=True)
    if stream:
        console.print(f"[dim]{escape(typed.prompt)}[/dim]", end="")
    texts = continue_text(
        trained.model,
        trained.tokenizer,
        typed.prompt,
        tokens=typed.tokens,
        samples=typed.samples,
        sampling=sampling,
        stop_at_end=typed.stop_at_end,
        seed=typed.seed,
        show=_show if stream else None,
    )
    if stream:
        print()
        return texts
    for number, text in enumerate(texts, start=1):
        if typed.samples > 1:
            console.rule(f"sample {number}", align="left")
        console.print(f"[dim]{escape(typed.prompt)}[/dim]{escape(text)}")
    return texts


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
