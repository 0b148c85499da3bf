from ntp.data.corpora import Docstrings, Python
from ntp.data.corpora.docstrings import docstrings

SOURCE = '''"""Of the module."""

if True:
    class Name:
        """Of the class.

            Indented.
        Not indented.
        """

        async def method(self):
            "Of the method."
            text = "not a docstring"

            def inner():
                """Of a function inside."""


def bare():
    return 1
'''


def test_docstrings_come_in_the_order_of_the_source_without_indentation() -> None:
    assert docstrings(SOURCE) == [
        "Of the module.",
        "Of the class.\n\n    Indented.\nNot indented.",
        "Of the method.",
        "Of a function inside.",
    ]


def test_source_that_does_not_parse_has_none() -> None:
    assert docstrings("def (:") == []
    assert docstrings("x\0") == []


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert docstrings('"""a\\ud800"""') == ["a?"]


def test_the_corpus_is_english_of_the_standard_library() -> None:
    corpus = Docstrings()
    corpus.files = [file for file in corpus.files if file.name == "argparse.py"]
    assert next(corpus.documents()).startswith("Command-line parsing library\n\nThis module is")


def test_it_is_told_apart_from_the_source_it_comes_from() -> None:
    assert Docstrings().digest() != Python().digest()
