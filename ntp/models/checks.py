"""What a constructor says when its numbers do not fit together."""

import difflib
from collections.abc import Sequence

from ntp.config.errors import ConfigError


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a name that is not among the choices.

    Raises:
        ConfigError: naming the closest choice. A misspelt name must never silently mean "none of them".
    """
    if value not in choices:
        close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.0)[0]
        raise ConfigError(key, f"{value!r} is not one of {', '.join(choices)}; the closest is {close}")


def check_divides(key: str, divisor: int, number: int, meaning: str) -> None:
    """Refuse a divisor that leaves a remainder.

    Args:
        key: the config key of the divisor.
        divisor: the value to check.
        number: what it must divide.
        meaning: what ``number`` is, for the message.

    Raises:
        ConfigError: naming the closest divisor (the smaller one of two equally close).
    """
    if number % divisor:
        divisors = (candidate for candidate in range(1, number + 1) if number % candidate == 0)
        closest = min(divisors, key=lambda candidate: abs(candidate - divisor))
        raise ConfigError(
            key, f"{divisor} does not divide {meaning} = {number}; the closest value that does is {closest}"
        )


def check_heads(width: int, heads: int, kv_heads: int, head_width: int | None, rotary: bool) -> None:
    """Refuse heads that do not come out.

    Args:
        width: channels of the residual stream.
        heads: query heads.
        kv_heads: key and value heads.
        head_width: channels of a head; None for width / heads.
        rotary: whether positions turn pairs of a head's channels.

    Raises:
        ConfigError: naming the closest right value.
    """
    if head_width is None:
        if rotary:
            if width % 2:
                raise ConfigError("model.width", f"rotary positions turn pairs of channels; take {width + 1}")
            check_divides("model.heads", heads, width // 2, "half of model.width (rotary positions turn pairs)")
        check_divides("model.heads", heads, width, "model.width")
    elif rotary and head_width % 2:
        raise ConfigError("model.head_width", f"rotary positions turn pairs of channels; take {head_width + 1}")
    check_divides("model.kv_heads", kv_heads, heads, "model.heads")
