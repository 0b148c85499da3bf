"""The same weights give the same logits as the reference implementations of Hugging Face."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ntp.models.transformer import Transformer

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
