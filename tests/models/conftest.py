from collections.abc import Callable
from typing import Any

import pytest
import torch

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
def tokens() -> torch.Tensor:
    """Three rows of twelve tokens."""
    return torch.randint(VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(1))
