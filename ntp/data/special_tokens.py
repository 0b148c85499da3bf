"""The special tokens that every tokenizer of ntp reserves, so that runs differ in nothing but the objective."""

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|padding|>"
MASK = "<|mask|>"
FIM_PREFIX = "<|fim_prefix|>"
FIM_SUFFIX = "<|fim_suffix|>"
FIM_MIDDLE = "<|fim_middle|>"
MODES = ("<|mode_r|>", "<|mode_x|>", "<|mode_s|>")
"""The mode tokens of UL2 (arXiv 2205.05131): regular, extreme and sequential denoising."""


def sentinel(index: int) -> str:
    """The token that stands for the index-th removed span, counted from 0."""
    return f"<|sentinel_{index}|>"


def reserved_tokens(sentinels: int) -> list[str]:
    """All reserved tokens in the order of their ids."""
    named = [END_OF_TEXT, PADDING, MASK, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, *MODES]
    return named + [sentinel(index) for index in range(sentinels)]
