"""What all training loops have in common: shape, data, precision, length."""

from dataclasses import dataclass

from harness.corpus import SENTINELS


@dataclass(frozen=True)
class Settings:
    """Of one benchmark.

    Attributes:
        corpus: path of the text.
        vocabulary: tokens.
        layers, width, heads: of the model; the feed-forward network is four times as wide.
        length: positions of a row.
        batch: rows of a step.
        precision: ``32-true`` or ``bf16-mixed``.
        device: ``cpu`` or ``cuda``.
        steps: of the learning rate schedule; no loop gets to its end.
    """

    corpus: str
    vocabulary: int
    layers: int
    width: int
    heads: int
    length: int
    batch: int
    precision: str
    device: str
    steps: int

    @property
    def tokens(self) -> int:
        """Of one step."""
        return self.batch * self.length

    def overrides(self) -> list[str]:
        """Of ``ntp train``: the shape of GPT-2, and no validation within the run, for no other loop has one."""
        return [
            "data=files",
            f"data.path={self.corpus}",
            "data/tokenizer=char",
            f"data.tokenizer.sentinels={SENTINELS}",
            f"data.sequence_length={self.length}",
            f"data.batch_size={self.batch}",
            f"model.layers={self.layers}",
            f"model.width={self.width}",
            f"model.heads={self.heads}",
            f"model.context_length={self.length}",
            "model.positions=learned",
            "model.norm=layernorm",
            "model.activation=gelu_tanh",
            "model.bias=true",
            "model.tie_embeddings=true",
            "model.dropout=0",
            f"trainer.accelerator={'gpu' if self.device == 'cuda' else 'cpu'}",
            f"trainer.precision={self.precision}",
            f"budget.steps={self.steps}",
            "evaluation.every_steps=null",
        ]
