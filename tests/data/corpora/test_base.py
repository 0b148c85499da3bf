from collections.abc import Iterator
from typing import Any

from ntp.data.corpora import Corpus, Split


class Given(Corpus):
    def __init__(self, *texts: str, deduplicate: bool = True) -> None:
        self.texts, self.deduplicate = texts, deduplicate

    def read(self, split: Split) -> Iterator[str]:
        yield from self.texts

    def digest(self) -> str:
        return repr(self.texts)

    def description(self) -> dict[str, Any]:
        return {"corpus": "given"}


def test_documents_without_text_are_dropped() -> None:
    assert list(Given("a", "", " \n\t", "b").documents()) == ["a", "b"]


def test_a_document_comes_once_at_its_first_place() -> None:
    assert list(Given("b", "a", "b").documents()) == ["b", "a"]


def test_duplicates_stay_where_the_corpus_says_so() -> None:
    assert list(Given("b", "a", "b", deduplicate=False).documents()) == ["b", "a", "b"]


def test_a_corpus_has_no_validation_split_unless_it_says_so() -> None:
    assert not Given("a").own_validation
