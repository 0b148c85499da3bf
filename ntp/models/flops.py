"""What a model costs: parameters, and floating point operations of its matrix products.

FLOPs are counted as `torch.utils.flop_counter` counts them: two for each multiply-add of a matrix product, nothing
for element-wise work, and attention as if nothing were masked. They are a property of the model and the row, not
of the kernel: work that a causal kernel skips, or that activation checkpointing does twice, does not change them.

Legend: L positions of a row, N targets of a row, D width, K query heads, G key and value heads, H width of a head,
M width of the feed-forward network, V vocabulary.
"""

from torch import nn


def linear_flops(layer: nn.Linear, positions: int) -> int:
    """FLOPs of a linear layer: 2 * in * out a position."""
    return 2 * layer.in_features * layer.out_features * positions


def attention_flops(queries: int, keys: int, heads: int, head_width: int) -> int:
    """FLOPs of softmax(QK^T)V for one row: two products of 2 * T * S * K * H each, whatever is masked."""
    return 4 * queries * keys * heads * head_width


def head_flops(width: int, vocabulary_size: int, targets: int) -> int:
    """FLOPs of the logits of N targets: 2 * N * D * V."""
    return 2 * targets * width * vocabulary_size


def parameter_count(model: nn.Module, embeddings: bool = True) -> int:
    """How many numbers a model learns; a shared one counts once.

    Args:
        model: whose.
        embeddings: whether to count embedding tables (of tokens and of positions). A head that is tied to one
            goes with it.
    """
    tables = set() if embeddings else {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return sum(parameter.numel() for parameter in model.parameters() if parameter not in tables)
