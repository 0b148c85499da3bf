"""The last step: from hidden states to logits, and to the loss of each target.

The logits of the loss are float32 whatever the precision of the model, because a sum over a large vocabulary in
bfloat16 is off in the second decimal. They are also by far the largest tensor of a small model, so when they would
be too large they are computed a slice of targets at a time, and once more in the backward pass.

Legend: N targets, D width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ntp.data.example import IGNORE

LOGITS_LIMIT = 256 * 2**20
"""Bytes of float32 logits above which the loss is computed in slices."""


def logits(hidden: Tensor, weight_VD: Tensor, softcap: float | None = None) -> Tensor:
    """Score every token of the vocabulary.

    Args:
        hidden: [..., D].
        weight_VD: [V, D], the embeddings of the output.
        softcap: squash the logits smoothly into (-softcap, softcap), ``softcap * tanh(logits / softcap)``
            (Gemma 2, 2024, section 2); None leaves them alone.

    Returns:
        [..., V] float32.
    """
    scores = F.linear(hidden, weight_VD).float()
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def token_nll(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    softcap: float | None = None,
    limit: int | None = None,
    excluded: int | None = None,
) -> Tensor:
    """Negative log-likelihood of each target.

    Args:
        hidden_ND: [N, D], the hidden state that predicts each target.
        weight_VD: [V, D].
        targets_N: [N] int64; a target of `IGNORE` costs 0.
        softcap: see `logits`.
        limit: bytes of float32 logits that may exist at once; None means `LOGITS_LIMIT`. It changes memory and
            speed, never the numbers.
        excluded: an id that is never predicted: its probability is 0 and the others sum to one.

    Returns:
        [N] float32, in nats. For N = 0 it is empty and still connected to the graph, so that a micro-batch without
        targets has a loss of 0 and gradients of 0.
    """
    limit = LOGITS_LIMIT if limit is None else limit
    targets_per_slice = max(1, limit // (4 * weight_VD.shape[0]))
    if hidden_ND.shape[0] <= targets_per_slice:
        return _nll(hidden_ND, weight_VD, targets_N, softcap, excluded)
    return torch.cat(
        [
            checkpoint(
                _nll, hidden, weight_VD, targets, softcap, excluded, use_reentrant=False, preserve_rng_state=False
            )
            for hidden, targets in zip(
                hidden_ND.split(targets_per_slice), targets_N.split(targets_per_slice), strict=True
            )
        ]
    )


def _nll(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, softcap: float | None, excluded: int | None
) -> Tensor:
    logits_NV = logits(hidden_ND, weight_VD, softcap)
    if excluded is not None:
        ids_V = torch.arange(weight_VD.shape[0], device=weight_VD.device)
        logits_NV = logits_NV.masked_fill(ids_V == excluded, -torch.inf)
    return F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="none")
