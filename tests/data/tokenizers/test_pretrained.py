import json
from pathlib import Path
from typing import NoReturn

import pytest

from ntp.config.errors import ConfigError
from ntp.data.special_tokens import reserved_tokens
from ntp.data.tokenizers import BytePair, Pretrained, Tokenizer
from tests.data.tokenizers.conftest import TEXTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A byte-level tokenizer as others make it: 256 bytes, </s> and [MASK]."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={one: index for index, one in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["</s>", "[MASK]"])
    backend.enable_truncation(4)
    backend.save(str(tmp_path / "tokenizer.json"))
    settings = {"eos_token": "</s>", "mask_token": {"content": "[MASK]"}, "pad_token": None, "unk_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_its_own_names_are_used_and_missing_tokens_added_behind(folder: Path) -> None:
    tokenizer = Pretrained(str(folder)).train()
    assert tokenizer.end_of_text == 256
    assert tokenizer.token_to_id("<|mask|>") == tokenizer.token_to_id("[MASK]") == 257
    assert tokenizer.padding == 258
    assert tokenizer.missing_special_tokens(reserved_tokens(128)) == []
    assert tokenizer.vocabulary_size == 258 + len(reserved_tokens(128)) - 2


def test_text_is_neither_truncated_nor_read_as_special_tokens(folder: Path) -> None:
    tokenizer = Pretrained(str(folder)).train()
    assert tokenizer.lossless
    text = "a longer text with </s> and [MASK] and <|padding|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_nothing_is_added_where_told_so(folder: Path) -> None:
    tokenizer = Pretrained(str(folder), add_special_tokens=False).train()
    assert tokenizer.vocabulary_size == 258
    assert tokenizer.padding == tokenizer.end_of_text
    assert tokenizer.missing_special_tokens(["<|mask|>", "<|fim_middle|>"]) == ["<|fim_middle|>"]


def test_a_file_alone_needs_to_be_told_its_names(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match=r"data\.tokenizer\.end_of_text"):
        Pretrained(str(folder / "tokenizer.json"), add_special_tokens=False).train()
    tokenizer = Pretrained(str(folder / "tokenizer.json"), end_of_text="</s>", add_special_tokens=False).train()
    assert tokenizer.end_of_text == 256


def test_a_name_that_is_ntps_own_may_be_told_too(tmp_path: Path) -> None:
    ours = BytePair(500).train(TEXTS)
    ours.save(tmp_path / "ours")
    named = Pretrained(str(tmp_path / "ours"), end_of_text="<|endoftext|>", mask="<|mask|>").train()
    assert named.digest() == ours.digest()
    named.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").digest() == named.digest()


def test_a_name_that_it_does_not_have_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.tokenizer\.mask: .* has no token '<mask>'"):
        Pretrained(str(folder), mask="<mask>").train()


def test_the_tokenizer_of_a_run_is_found_in_its_directory_unchanged(tmp_path: Path) -> None:
    trained = BytePair(500).train(TEXTS)
    trained.save(tmp_path / "tokenizer")
    loaded: Tokenizer = Pretrained(str(tmp_path)).train()
    assert loaded.digest() == trained.digest()


def test_its_identity_is_its_contents(folder: Path, tmp_path: Path) -> None:
    before = Pretrained(str(folder)).identity()
    assert Pretrained(str(folder / "tokenizer.json")).identity() == before
    assert Pretrained(str(folder), sentinels=3).identity() != before


@pytest.mark.parametrize("path", ["./missing", "missing/tokenizer.json/x"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.tokenizer\.path: there is nothing at"):
        Pretrained(path).train()


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no tokenizer\.json at"):
        Pretrained(str(tmp_path)).train()


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a tokenizer"):
        Pretrained(str(tmp_path)).train()


def test_a_name_that_the_hub_does_not_give_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ConfigError, match="cannot be had from the hub: no network at all"):
        Pretrained("gpt2").train()


def test_a_name_on_the_hub_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _, name, revision: str(folder / name))
    assert Pretrained("someone/something").train().end_of_text == 256
