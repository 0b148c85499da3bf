from collections.abc import Callable
from typing import Any

import pytest
import torch

from ntp.models.encoder_decoder import EncoderDecoder
from ntp.models.transformer import Transformer

VOCABULARY = 31


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> Callable[..., Transformer]:
    """Build a Transformer of two layers whose weights are large enough for every part of it to matter."""

    def build(**changes: Any) -> Transformer:
        arguments: dict[str, Any] = {
            "vocabulary_size": VOCABULARY,
            "width": 16,
            "layers": 2,
            "heads": 4,
            "mlp_width": 24,
            "context_length": 16,
            "init_std": 0.3,
        }
        return Transformer(**(arguments | changes)).eval()

    return build


@pytest.fixture
def tiny_pair() -> Callable[..., EncoderDecoder]:
    """Build an encoder-decoder of two and two layers, likewise."""

    def build(**changes: Any) -> EncoderDecoder:
        arguments: dict[str, Any] = {
            "vocabulary_size": VOCABULARY,
            "width": 16,
            "heads": 4,
            "mlp_width": 24,
            "relative_buckets": 8,
            "relative_max_distance": 16,
            "init_std": 0.3,
        }
        return EncoderDecoder(**(arguments | changes)).eval()

    return build


@pytest.fixture
def tokens() -> torch.Tensor:
    """Three rows of twelve tokens."""
    return torch.randint(VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(1))
