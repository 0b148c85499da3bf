"""Multi-token prediction: further tokens ahead, by layers behind the model's own.

The sequential modules are those of DeepSeek-V3 (arXiv 2412.19437, section 2.2), the parallel heads those of Gloeckle et
al. (arXiv 2404.19737, section 2).

Legend: B rows, L positions of a row, T tokens read, D width, N = B * L, K depth, k = 1 .. K.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ntp.config.types import NonNegativeFloat, PositiveInt, Probability
from ntp.data.example import IGNORE, Batch, Draw, Example, Row
from ntp.objectives.answers import LEFT_TO_RIGHT, left_to_right_length, score_left_to_right
from ntp.objectives.base import Context, LossTerms, Objective, Scorer
from ntp.objectives.query import Choose, Decode, Query
from ntp.objectives.question import Question

TARGETS, WEIGHT = "further_targets", "further_weight"
_SCORED_AT_ONCE = 1024


class MultiTokenPrediction(Objective):
    """Every position predicts the next token and, through extra layers, also the tokens behind it.

    In ``sequential`` depth k reads at position i what depth k - 1 made there and the embedding of x[i+k], and predicts
    x[i+k+1]: the whole chain of causes is kept. Depth 0 is the model, whose hidden states are taken behind its final
    norm. In ``parallel`` each extra head is one layer on the model's hidden states, sees nothing behind i, and predicts
    x[i+k+1]; the head of the next token has no layer of its own but the model's last, so that the extra heads stand
    behind that layer rather than beside it. Both kinds share embeddings and unembedding with the model.

    The loss of depth k is summed over the positions whose target exists and divided by the number of next-token
    targets, like the main loss. A row looks ahead far enough that within one document the two counts are equal, so that
    this is the mean; a document that ends in the row lacks k targets, and weighs that much less.

    Args:
        kind: ``sequential`` or ``parallel``.
        depth: K, tokens predicted beyond the next one.
        weight: of the further tokens: the loss is main + weight / K * (the sum over their depths). None is the papers':
            0.3 for ``sequential``; for ``parallel`` K, which makes it the plain sum.
        final_weight: from ``switch_at`` on, and in evaluation. None is 0.1 where ``sequential`` takes the paper's
            weight, and ``weight`` otherwise.
        switch_at: part of the run after which ``final_weight`` holds. A run that a clock ends does not know how far it
            is, and keeps ``weight``.
    """

    attention = "causal"
    likelihood = "exact"
    inference = frozenset({"continue"})
    ways = LEFT_TO_RIGHT

    def __init__(
        self,
        kind: Literal["sequential", "parallel"] = "sequential",
        depth: PositiveInt = 1,
        weight: NonNegativeFloat | None = None,
        final_weight: NonNegativeFloat | None = None,
        switch_at: Probability = 2 / 3,
    ) -> None:
        super().__init__()
        self.kind, self.depth, self.switch_at = kind, depth, switch_at
        usual = (0.3, 0.1) if kind == "sequential" else (float(depth), float(depth))
        self.weight = usual[0] if weight is None else weight
        otherwise = usual[1] if weight is None else weight
        self.final_weight = otherwise if final_weight is None else final_weight
        # A row of L positions needs L + 1 + depth tokens, or its last positions would lack further targets.
        self.lookahead = 1 + depth
        self.sequence_length = 0
        self.heads = nn.ModuleList()

    def bind(self, context: Context) -> None:
        """Build the layers of every depth, of the same make as the model's."""
        self.sequence_length = context.sequence_length
        make = _SequentialModule if self.kind == "sequential" else _Head
        self.heads = nn.ModuleList()
        for index in range(self.depth):
            with context.named(f"heads.{index}"):
                self.heads.append(make(context))

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Causal inputs and targets; beside them the tokens behind each target, as long as the document lasts."""
        length = min(len(row) - 1, self.sequence_length)
        first = row.segments[:length]
        further_LK = np.full((length, self.depth), IGNORE)
        same_document = np.ones(length, dtype=bool)
        targets = np.full(length, IGNORE)
        for ahead in range(1, self.depth + 2):
            exists = max(0, min(length, len(row) - ahead))
            same_document[exists:] = False
            same_document[:exists] &= row.segments[ahead : ahead + exists] == first[:exists]
            column = targets if ahead == 1 else further_LK[:, ahead - 2]
            column[:exists] = np.where(same_document[:exists], row.tokens[ahead : ahead + exists], IGNORE)
        # Evaluation has no progress: it stands at the end of the run.
        begun = not draw.evaluation and (draw.progress is None or draw.progress < self.switch_at)
        weight = self.weight if begun else self.final_weight
        return Example(
            tokens=row.tokens[:length],
            targets=targets,
            segments=first,
            target_bytes=np.where(targets != IGNORE, row.bytes[1 : 1 + length], 0),
            # The short last row of a text is read to its end, although it can't look ahead as far as others.
            read_bytes=int(row.bytes[:length].sum()),
            extra={TARGETS: further_LK, WEIGHT: np.full(length, weight, dtype=np.float32)},
        )

    def restore(self, example: Example) -> np.ndarray:
        """All inputs and the last target; further targets are copies of what stands there."""
        last = example.targets[-1:]
        return np.concatenate([example.tokens, last[last != IGNORE]])

    def loss(self, model: Scorer, batch: Batch) -> LossTerms:
        """Main loss and further losses; the likelihood is that of the next tokens alone."""
        seen = {"segments": batch.segments, "positions": batch.positions}
        trunk_BLD = model(batch.tokens, attention=batch.attention, **seen)
        hidden_ND, targets_N = trunk_BLD.flatten(0, 1), batch.targets.flatten()
        if batch.target_index is not None:
            hidden_ND, targets_N = hidden_ND[batch.target_index], targets_N[batch.target_index]
        nats = model.token_nll(hidden_ND, targets_N).sum()
        metrics: dict[str, tuple[Tensor, int | Tensor]] = {"next_token/loss": (nats, batch.target_count)}

        total = nats
        further_BLK = batch.extra[TARGETS]
        weight_N = batch.extra[WEIGHT].flatten() / self.depth
        hidden_BLD, upcoming_BL = trunk_BLD, batch.targets
        for index, head in enumerate(self._heads()):
            # Where x[i+k] does not exist neither does a target, here or further on: whatever is read there is lost.
            hidden_BLD = head(model, trunk_BLD, hidden_BLD, upcoming_BL.clamp(min=0), **seen)
            upcoming_BL = further_BLK[..., index]
            # Over all positions: to leave out the few without a target would have to wait for the device.
            hidden_ND, targets_N = hidden_BLD.flatten(0, 1), upcoming_BL.flatten()
            nll_N = model.token_nll(hidden_ND, targets_N)
            total = total + (weight_N * nll_N).sum()
            targets = (targets_N != IGNORE).sum()
            metrics[f"depth_{index + 1}/loss"] = (nll_N.sum(), targets)
            if not self.training:
                metrics[f"depth_{index + 1}/accuracy"] = (_right(model, hidden_ND, targets_N), targets)
        return LossTerms(total, batch.count, batch.target_bytes, metrics, nats=nats)

    def forward_flops(self, model: Scorer, length: int, targets: int) -> int:
        """The model's, and those of every depth, which goes through the model's head at all positions."""
        scoring = model.forward_flops(length, length) - model.forward_flops(length, 0)
        return model.forward_flops(length, targets) + sum(head.flops(length) + scoring for head in self._heads())

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Query:
        """Write on; the extra layers guess ahead when asked to."""
        return Decode(prefix, drafter=self)

    def score(self, question: Question, draw: Draw) -> Example:
        """Next tokens alone, by the model's own head."""
        return score_left_to_right(question)

    def score_length(self, question: Question) -> int:
        """What stands behind takes no room."""
        return left_to_right_length(question)

    def draft(self, model: Any, tokens_BT: Tensor, hidden_BTD: Tensor, caches: Sequence[Any], choose: Choose) -> Tensor:
        """Guess ``depth`` tokens behind a text; see `ntp.objectives.query.Drafter`."""
        known, begin = tokens_BT.shape[1], caches[0].length
        trunk_BTD = previous_BTD = hidden_BTD[:, begin:]
        for ahead, (head, cache) in enumerate(zip(self._heads(), caches, strict=True), start=1):
            previous_BTD = head(model, trunk_BTD, previous_BTD, tokens_BT[:, begin + ahead :], cache=cache)
            guess_B = choose(model.logits(previous_BTD[:, -1]))
            tokens_BT = torch.cat([tokens_BT, guess_B[:, None]], dim=1)
        for cache in caches:
            # At its last positions the deepest module has read guesses. All are cut alike, so that what one begins
            # with next time has just been computed by the one before.
            cache.truncate(max(0, known - self.depth))
        return tokens_BT[:, known:]

    def _heads(self) -> list[_Head]:
        return list(self.heads)  # type: ignore[arg-type]


class _Head(nn.Module):
    """One block of the model's make. By itself it is a parallel head, on the model's own hidden states."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.stack = context.make_stack(1, None)

    def forward(
        self,
        model: Any,
        trunk_BLD: Tensor,
        previous_BLD: Tensor,
        upcoming_BL: Tensor,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Hidden states [B, L, D] that predict x[i+k+1].

        Args:
            model: whose embeddings are shared.
            trunk_BLD: [B, L, D], the model's hidden states.
            previous_BLD: [B, L, D], those of the depth before.
            upcoming_BL: [B, L], x[i+k].
            segments, positions: of the row.
            cache: the past of this head.
        """
        hidden_BLD = self.mix(model, trunk_BLD, previous_BLD, upcoming_BL, positions, cache)
        predicting_BLD: Tensor = self.stack(
            hidden_BLD, attention="causal", segments=segments, positions=positions, cache=cache
        )
        return predicting_BLD

    def mix(
        self,
        model: Any,
        trunk_BLD: Tensor,
        previous_BLD: Tensor,
        upcoming_BL: Tensor,
        positions: Tensor | None,
        cache: Any,
    ) -> Tensor:
        """What the block reads."""
        return trunk_BLD

    def flops(self, length: int) -> int:
        """Matrix FLOPs of one row."""
        own = [layer for layer in self.children() if isinstance(layer, nn.Linear)]
        inner: int = self.stack.forward_flops(length)  # type: ignore[operator]
        return inner + sum(2 * layer.in_features * layer.out_features * length for layer in own)


class _SequentialModule(_Head):
    """M_k and TRM_k of DeepSeek-V3: two norms, a projection of both inputs together, and the block."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        width = context.width
        self.hidden_norm, self.embedding_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        with context.named("projection"):
            self.projection = nn.Linear(2 * width, width, bias=False)
            nn.init.normal_(self.projection.weight, std=(2 * width) ** -0.5)  # keeps the scale of its inputs

    def mix(
        self,
        model: Any,
        trunk_BLD: Tensor,
        previous_BLD: Tensor,
        upcoming_BL: Tensor,
        positions: Tensor | None,
        cache: Any,
    ) -> Tensor:
        """The hidden states of the depth before and the token x[i+k], each normalised, in this order."""
        if positions is None and cache is not None:
            positions = torch.arange(cache.length, cache.length + upcoming_BL.shape[1], device=upcoming_BL.device)[None]
        # A model that adds positions to its embeddings adds i, as for the block: i + k may lie beyond its table.
        embedding_BLD = self.embedding_norm(model.embed(upcoming_BL, positions))
        mixed_BLD: Tensor = self.projection(torch.cat([self.hidden_norm(previous_BLD), embedding_BLD], dim=-1))
        return mixed_BLD


@torch.no_grad()
def _right(model: Scorer, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
    """How many targets are the likeliest token, a slice at a time: the logits of all would be the largest tensor."""
    pairs = zip(hidden_ND.split(_SCORED_AT_ONCE), targets_N.split(_SCORED_AT_ONCE), strict=True)
    return torch.stack([(model.logits(hidden).argmax(-1) == targets).sum() for hidden, targets in pairs]).sum()
