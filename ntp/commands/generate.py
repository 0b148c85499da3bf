"""``ntp generate``: write text with a trained run."""

import sys

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from ntp.config.errors import ConfigError
from ntp.config.schema import GenerateConfig
from ntp.config.validation import resolve, validate
from ntp.generation.answer import Answer, Request, answer
from ntp.generation.sampling import Sampling
from ntp.tracking.tree import print_config
from ntp.training.load import choose_device, load_run


def run(config: DictConfig) -> list[str]:
    """Print what the run writes behind a prompt, or between a prefix and a suffix.

    Returns:
        What it has written.

    Raises:
        ConfigError: there is no such run, or its objective cannot do what is asked.
    """
    typed = validate(config, GenerateConfig)
    if typed.print_config:
        print_config(resolve(config))
    request = _request(typed)
    trained = load_run(typed.run, typed.checkpoint, typed.allow_targets, choose_device(typed.accelerator))

    stream = (sys.stdout.isatty() if typed.stream is None else typed.stream) and typed.samples == 1
    console = Console(highlight=False, soft_wrap=True)
    before, behind = (f"[dim]{escape(text)}[/dim]" if text else "" for text in (request.prefix, request.suffix))
    if stream:
        console.print(before, end="")
    done = answer(
        trained.model,
        trained.objective,
        trained.tokenizer,
        request,
        _show if stream else None,
        isolated=trained.config.data.documents == "isolate",
    )
    if stream:
        console.print(behind)
    else:
        for number, text in enumerate(done.texts, start=1):
            if typed.samples > 1:
                console.rule(f"sample {number}", align="left")
            console.print(f"{before}{escape(text)}{behind}")
    _remark(request, done)
    return done.texts


def _request(typed: GenerateConfig) -> Request:
    prefix, suffix = typed.prompt or "", None
    if typed.prefix is not None or typed.suffix is not None:
        if typed.prompt is not None:
            raise ConfigError(
                "prompt", "is continued, while prefix and suffix have something written between them; give one or other"
            )
        prefix, suffix = typed.prefix or "", typed.suffix or ""
    return Request(
        prefix,
        suffix,
        tokens=typed.tokens,
        form=typed.form,
        samples=typed.samples,
        sampling=Sampling(
            greedy=typed.greedy,
            temperature=typed.temperature,
            top_k=typed.top_k,
            top_p=typed.top_p,
            min_p=typed.min_p,
            repetition_penalty=typed.repetition_penalty,
        ),
        stop_at_end=typed.stop_at_end,
        method=typed.method,
        steps=typed.steps,
        block=typed.block,
        speculate=typed.speculate,
        seed=typed.seed,
    )


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _remark(request: Request, done: Answer) -> None:
    """What the text itself does not say goes beside it, to the standard error."""
    if request.suffix is not None and not all(done.ended):
        unended = done.ended.count(False)
        which = "it" if len(done.ended) == 1 else f"{unended} of {len(done.ended)} samples"
        print(f"{which} found no end within {request.tokens} tokens; tokens=... allows more", file=sys.stderr)
    if (guesses := done.guesses) is not None:
        rate = f" ({guesses.accepted / guesses.made:.0%})" if guesses.made else ""
        print(
            f"{guesses.accepted} of {guesses.made} guesses accepted{rate}; the model was asked "
            f"{_counted(guesses.calls, 'time')} for {_counted(guesses.written, 'token')}",
            file=sys.stderr,
        )


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
