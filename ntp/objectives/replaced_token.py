"""Replaced-token detection, the objective of ELECTRA (Clark et al. 2020, arXiv 2003.10555).

Legend: B rows, L positions of a row, N selected tokens, D width of the model, G width of the generator, V vocabulary,
T ids that are text.
"""

from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntp.config.types import NonNegativeFloat, PositiveInt, Probability
from ntp.data.example import IGNORE, Batch, Draw, Example, Row
from ntp.data.special_tokens import MASK
from ntp.objectives.base import Context, LossTerms, Objective, Scorer

SHARES_LIMIT = 2**23
"""Probabilities, of 8 bytes each, that may exist at once while guesses are drawn."""


class ReplacedTokenDetection(Objective):
    """A small generator guesses hidden tokens, and the model tells at every position whether the token is a guess.

    The generator is a masked language model, trained as such. It shares the model's embeddings, at both ends, and is
    thrown away after training; the model is the discriminator. A guess that happens to be right counts as original.
    No gradient goes from the discriminator through a guess to the generator (section 2 of the paper).

    The loss is the mean over selected tokens of the generator's nats, and ``discriminator_weight`` times the mean over
    positions of the discriminator's binary cross-entropy. The second mean is taken row by row, and rows weigh as many
    as they have selected tokens, so that one division by the selected tokens of the whole step serves both, and no
    split into micro-batches changes it. For rows of equal length these are the two means of the paper.

    Three details differ from the paper's code. Tokens are selected without replacement. No guess is a special token:
    text has none, and the mask token must not reach the discriminator. And the generator's logits have no bias of
    their own, since they are the model's.

    Args:
        rate: part of a row's tokens that are selected, exactly, and at least one. Special tokens never are.
        mask_fraction: probability that the generator reads a selected token as the mask token, and not as it is.
        generator_fraction: width of the generator over that of the model, rounded to a multiple of 8.
        generator_layers: its depth. The paper's is that of the model.
        discriminator_weight: of the discriminator's loss; lambda in the paper.
    """

    attention = "full"
    likelihood = "none"

    text_ids_T: Tensor
    generator: Any

    def __init__(
        self,
        rate: Probability = 0.15,
        mask_fraction: Probability = 0.85,
        generator_fraction: Annotated[float, Field(gt=0, le=1)] = 0.25,
        generator_layers: PositiveInt = 4,
        discriminator_weight: NonNegativeFloat = 50.0,
    ) -> None:
        super().__init__()
        self.rate, self.mask_fraction, self.discriminator_weight = rate, mask_fraction, discriminator_weight
        self.generator_fraction, self.generator_layers = generator_fraction, generator_layers
        self.shows_some_targets = mask_fraction < 1

    def special_tokens(self) -> tuple[str, ...]:
        """The mask token."""
        return (MASK,)

    def bind(self, context: Context) -> None:
        """Remember which ids are text; build the generator and the head of the discriminator."""
        self.mask_id = context.special_ids[MASK]
        text_ids = context.tokenizer.text_ids
        self.is_text_V = np.zeros(context.vocabulary_size, dtype=bool)
        self.is_text_V[text_ids] = True
        self.register_buffer("text_ids_T", torch.tensor(text_ids), persistent=False)

        width = context.width
        narrow = min(width, max(8, 8 * round(width * self.generator_fraction / 8)))
        with context.named("generator_input"):
            self.generator_input = nn.Linear(width, narrow)
        with context.named("generator"):
            self.generator = context.make_stack(self.generator_layers, narrow)
        with context.named("generator_output"):
            self.generator_output = nn.Sequential(nn.Linear(narrow, width), nn.GELU(), nn.LayerNorm(width))
        with context.named("detector"):
            self.detector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """What the generator reads, the original tokens that it must guess, and a random number for each guess."""
        rng = draw.rng
        candidates = np.flatnonzero(self.is_text_V[row.tokens])
        count = max(1, round(self.rate * len(candidates))) if len(candidates) else 0
        selected_N = rng.permutation(candidates)[:count]
        masked_N = selected_N[rng.random(count) < self.mask_fraction]
        tokens, targets = row.tokens.copy(), np.full(len(row), IGNORE)
        tokens[masked_N] = self.mask_id
        targets[selected_N] = row.tokens[selected_N]
        return Example(
            tokens=tokens,
            targets=targets,
            segments=row.segments,
            target_bytes=np.where(targets == IGNORE, 0, row.bytes),
            extra={"guess_uniform": rng.random(len(row))},
        )

    def loss(self, model: Scorer, batch: Batch) -> LossTerms:
        """Sum of the generator's loss and of the discriminator's, weighted as the class says."""
        index = batch.target_index
        targets_N, uniform_N = batch.targets.flatten(), batch.extra["guess_uniform"].flatten()
        guess_hidden_ND = self._generate(model, batch)
        if index is not None:
            targets_N, uniform_N = targets_N[index], uniform_N[index]
        generator_nll_N = model.token_nll(guess_hidden_ND, targets_N)

        original_BL = torch.where(batch.targets == IGNORE, batch.tokens, batch.targets)
        guess_N = self.sample(model, guess_hidden_ND, uniform_N)
        read_BL = guess_N if index is None else original_BL.flatten().index_copy(0, index, guess_N)
        read_BL = read_BL.view_as(original_BL)
        replaced_BL = read_BL != original_BL

        hidden_BLD = model(read_BL, attention="full", segments=batch.segments, positions=batch.positions)
        score_BL = self.detector(hidden_BLD).squeeze(-1).float()
        real_BL = torch.ones_like(replaced_BL) if batch.segments is None else batch.segments >= 0
        loss_BL = F.binary_cross_entropy_with_logits(score_BL, replaced_BL.float(), reduction="none") * real_BL
        weight_B = (batch.targets != IGNORE).sum(1).float() / real_BL.sum(1).clamp_min(1)
        discriminator_sum = (weight_B * loss_BL.sum(1)).sum()

        found_BL = (score_BL > 0) & real_BL
        positions, hits = batch.read_tokens, (found_BL & replaced_BL).sum()
        return LossTerms(
            sum=generator_nll_N.sum() + self.discriminator_weight * discriminator_sum,
            count=batch.count,
            bytes=0,
            metrics={
                "generator_nll": (generator_nll_N.sum(), batch.target_count),
                "discriminator_loss": (discriminator_sum, batch.target_count),
                "accuracy": (((found_BL == replaced_BL) & real_BL).sum(), positions),
                "precision": (hits, found_BL.sum()),
                "recall": (hits, replaced_BL.sum()),
                "replaced_fraction": (replaced_BL.sum(), positions),
            },
        )

    def _generate(self, model: Scorer, batch: Batch) -> Tensor:
        """[N, D], what the model's head turns into the generator's guesses."""
        narrow_BLG = self.generator_input(model.embed(batch.tokens, batch.positions))
        narrow_BLG = self.generator(narrow_BLG, attention="full", segments=batch.segments, positions=batch.positions)
        narrow_NG = narrow_BLG.flatten(0, 1)
        return self.generator_output(narrow_NG if batch.target_index is None else narrow_NG[batch.target_index])

    @torch.no_grad()
    def sample(self, model: Scorer, hidden_ND: Tensor, uniform_N: Tensor) -> Tensor:
        """Draw a token of text from each softmax, at temperature 1: the one in whose share of [0, 1) the number falls.

        The numbers come with the rows, so that a guess depends on neither the other rows of a micro-batch nor the rank.

        Args:
            model: any.
            hidden_ND: from the generator.
            uniform_N: float64, in [0, 1).

        Returns:
            [N] int64.
        """
        ids_T = self.text_ids_T
        guesses = [ids_T[:0]]
        rows = max(1, SHARES_LIMIT // len(ids_T))
        for hidden, uniform in zip(hidden_ND.split(rows), uniform_N.split(rows), strict=True):
            # In float32 the shares of rare tokens would be lost in the sum of the common ones.
            ends_NT = model.logits(hidden)[:, ids_T].double().softmax(1).cumsum(1)
            place_N1 = torch.searchsorted(ends_NT, uniform[:, None].double() * ends_NT[:, -1:], right=True)
            guesses.append(ids_T[place_N1.squeeze(1).clamp_max(len(ids_T) - 1)])
        return torch.cat(guesses)

    def forward_flops(self, model: Scorer, length: int, targets: int) -> int:
        """Of the generator (its head runs twice: for its loss, and to draw from) and of the discriminator."""
        width, narrow = self.generator_input.in_features, self.generator_input.out_features
        projections = 2 * width * narrow * (length + targets)
        generator = projections + self.generator.forward_flops(length) + 2 * _head_flops(model, length, targets)
        return generator + model.forward_flops(length, 0) + 2 * length * width * (width + 1)

    def training_flops(self, model: Scorer, batch: Batch) -> int:
        """Three times the forward, but for what is drawn from: nothing goes back through that."""
        drawing = sum(_head_flops(model, batch.tokens.shape[1], row.targets) for row in batch.tallies)
        return super().training_flops(model, batch) - 2 * drawing

    def restore(self, example: Example) -> np.ndarray:
        """Targets where there are any, tokens elsewhere."""
        return np.where(example.targets == IGNORE, example.tokens, example.targets)


def _head_flops(model: Scorer, length: int, targets: int) -> int:
    return model.forward_flops(length, targets) - model.forward_flops(length, 0)
