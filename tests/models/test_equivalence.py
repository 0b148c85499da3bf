"""The same weights give the same logits as the reference implementations of Hugging Face."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ntp.data.collate import collate
from ntp.data.example import IGNORE, Example
from ntp.models.encoder_decoder import EncoderDecoder
from ntp.models.transformer import Transformer
from ntp.objectives.base import target_nll

transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(31, (2, 10), generator=torch.Generator().manual_seed(2))


def randomised(model: Any) -> Any:
    """Weights large enough for every part of the model to matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def assert_same_logits(ours: Transformer, theirs: Any, weights: dict[str, Tensor]) -> None:
    ours.load_state_dict(weights)
    with torch.no_grad():
        expected = theirs(TOKENS).logits
        torch.testing.assert_close(ours.eval().logits(ours(TOKENS)), expected, atol=1e-4, rtol=1e-4)


def test_gpt2_weights_give_the_logits_of_gpt2() -> None:
    config = transformers.GPT2Config(vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=4)
    theirs = randomised(transformers.GPT2LMHeadModel(config))
    renamed = {"ln_1": "attention_norm", "attn.c_attn": "attention.qkv", "attn.c_proj": "attention.output"}
    renamed |= {"ln_2": "mlp_norm", "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down"}
    state = theirs.transformer.state_dict()
    weights = {"token_embedding.weight": state["wte.weight"], "position_embedding.table.weight": state["wpe.weight"]}
    for kind in ("weight", "bias"):
        weights[f"stack.final_norm.{kind}"] = state[f"ln_f.{kind}"]
        for layer in range(2):
            for name, our_name in renamed.items():
                tensor = state[f"h.{layer}.{name}.{kind}"]
                weights[f"stack.blocks.{layer}.{our_name}.{kind}"] = tensor.mT if tensor.ndim == 2 else tensor
    ours = Transformer(
        vocabulary_size=31,
        width=16,
        layers=2,
        norm="layernorm",
        activation="gelu_tanh",
        positions="learned",
        context_length=16,
        bias=True,
    )
    assert_same_logits(ours, theirs, weights)


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_llama_style_weights_give_the_logits_of_llama(kind: str) -> None:
    qk_norm = kind == "Qwen3"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    theirs = randomised(getattr(transformers, f"{kind}ForCausalLM")(config))
    state = theirs.state_dict()
    weights = {
        "token_embedding.weight": state["model.embed_tokens.weight"],
        "stack.final_norm.weight": state["model.norm.weight"],
        "head.weight": state["lm_head.weight"],
    }
    for layer in range(2):
        their, our = f"model.layers.{layer}.", f"stack.blocks.{layer}."
        attention = their + "self_attn."
        weights |= {
            our + "attention_norm.weight": state[their + "input_layernorm.weight"],
            our + "mlp_norm.weight": state[their + "post_attention_layernorm.weight"],
            our + "attention.qkv.weight": torch.cat([state[f"{attention}{name}_proj.weight"] for name in "qkv"]),
            our + "attention.output.weight": state[attention + "o_proj.weight"],
            our + "mlp.up.weight": torch.cat([state[f"{their}mlp.{name}_proj.weight"] for name in ("gate", "up")]),
            our + "mlp.down.weight": state[their + "mlp.down_proj.weight"],
        }
        if qk_norm:
            weights[our + "attention.query_norm.weight"] = state[attention + "q_norm.weight"]
            weights[our + "attention.key_norm.weight"] = state[attention + "k_norm.weight"]
    ours = Transformer(
        vocabulary_size=31,
        width=16,
        layers=2,
        kv_heads=2,
        mlp_width=24,
        rotary_base=500.0,
        qk_norm=qk_norm,
        tie_embeddings=False,
    )
    assert_same_logits(ours, theirs, weights)


# T5, with sources and targets of one length or of several


def t5(gated: bool) -> Any:
    """A small model of Hugging Face: v1.1 with GEGLU and a head of its own, or v1.0 with ReLU and a tied head."""
    config = transformers.T5Config(
        vocab_size=31,
        d_model=16,
        d_kv=6,
        d_ff=24,
        num_layers=2,
        num_decoder_layers=3,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
        attn_implementation="eager",
    )
    theirs = transformers.T5ForConditionalGeneration(config)
    if gated:
        # The library ties every head of T5 it makes; checkpoints of v1.1 bring one of their own.
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty(31, 16))
    return randomised(theirs)


def t5_weights(theirs: Any, gated: bool) -> dict[str, Tensor]:
    """Its weights by our names. T5 does not scale its scores, so its queries are scaled up against our scaling."""
    state = theirs.state_dict()
    weights = {"token_embedding.weight": state["shared.weight"]}
    if gated:
        weights["head.weight"] = state["lm_head.weight"]
    for stack, layers in (("encoder", 2), ("decoder", 3)):
        weights[f"{stack}.final_norm.weight"] = state[f"{stack}.final_layer_norm.weight"]
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights[f"{stack}.relative.table.weight"] = state[table]
        for layer in range(layers):
            their, our = f"{stack}.block.{layer}.layer.", f"{stack}.blocks.{layer}."
            query, key, value, output = (state[f"{their}0.SelfAttention.{name}.weight"] for name in "qkvo")
            weights[our + "attention.qkv.weight"] = torch.cat([query * 6**0.5, key, value])
            weights[our + "attention.output.weight"] = output
            weights[our + "attention_norm.weight"] = state[f"{their}0.layer_norm.weight"]
            last = 1
            if stack == "decoder":
                query, key, value, output = (state[f"{their}1.EncDecAttention.{name}.weight"] for name in "qkvo")
                weights[our + "cross_attention.query.weight"] = query * 6**0.5
                weights[our + "cross_attention.key_value.weight"] = torch.cat([key, value])
                weights[our + "cross_attention.output.weight"] = output
                weights[our + "cross_norm.weight"] = state[f"{their}1.layer_norm.weight"]
                last = 2
            ups = ("wi_0", "wi_1") if gated else ("wi",)
            dense = f"{their}{last}.DenseReluDense."
            weights[our + "mlp.up.weight"] = torch.cat([state[f"{dense}{name}.weight"] for name in ups])
            weights[our + "mlp.down.weight"] = state[dense + "wo.weight"]
            weights[our + "mlp_norm.weight"] = state[f"{their}{last}.layer_norm.weight"]
    if not gated:
        # v1.0 scales what its tied head reads, which is the same as a smaller gain of the last norm.
        weights["decoder.final_norm.weight"] = weights["decoder.final_norm.weight"] * 16**-0.5
    return weights


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("lengths", [[(17, 9)] * 3, [(17, 9), (4, 6), (1, 12), (9, 1)]])
def test_t5_weights_give_the_logits_and_the_loss_of_t5(gated: bool, lengths: list[tuple[int, int]]) -> None:
    theirs = t5(gated)
    ours = EncoderDecoder(
        vocabulary_size=31,
        width=16,
        encoder_layers=2,
        decoder_layers=3,
        heads=4,
        head_width=6,
        mlp_width=24,
        activation="geglu" if gated else "relu",
        relative_buckets=8,
        relative_max_distance=12,
        tie_embeddings=not gated,
    ).eval()
    ours.load_state_dict(t5_weights(theirs, gated))

    generator = torch.Generator().manual_seed(5)
    texts = [torch.randint(31, (source + targets,), generator=generator) for source, targets in lengths]
    examples = [
        Example(
            tokens=text[:-1].numpy(),
            targets=torch.where(torch.arange(1, len(text)) >= source, text[1:], IGNORE).numpy(),
            order=(torch.arange(len(text) - 1) - source + 1).clamp(min=0).numpy(),
        )
        for text, (source, _) in zip(texts, lengths, strict=True)
    ]
    batch = collate(examples, 40, "prefix", np.ones(31, dtype=np.int64), padding_id=0)

    width, depth = (max(sizes) for sizes in zip(*lengths, strict=True))
    sources, mask = torch.zeros(2, len(texts), width, dtype=torch.long)
    starts, labels = torch.zeros(len(texts), depth, dtype=torch.long), torch.full((len(texts), depth), IGNORE)
    for row, (text, (source, targets)) in enumerate(zip(texts, lengths, strict=True)):
        sources[row, :source], mask[row, :source] = text[:source], 1
        starts[row, :targets], labels[row, :targets] = text[source - 1 : -1], text[source:]
    with torch.no_grad():
        expected = theirs(input_ids=sources, attention_mask=mask, decoder_input_ids=starts, labels=labels)
        hidden = ours(batch.tokens, attention="prefix", order=batch.order, segments=batch.segments)
        logits = ours.logits(hidden)[batch.targets != IGNORE]
        torch.testing.assert_close(logits, expected.logits[labels != IGNORE], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(target_nll(ours, batch).nll.mean(), expected.loss, atol=1e-5, rtol=1e-5)
