"""The picture is drawn of every explanation, and small."""

import warnings

import numpy as np
import pytest

from ntp.explain.png import save
from ntp.objectives.causal import Causal
from tests.explain.conftest import TWO_DOCUMENTS, Chosen, Masked, TwoCopies

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def drawn(tmp_path):
    """The pixels of a saved explanation, [height, width, 3]."""

    def drawn(explanation):
        path = tmp_path / "picture.png"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            save(explanation, path)
        assert path.stat().st_size < 200_000
        return np.asarray(Image.open(path).convert("RGB"))

    return drawn


def share(pixels, colour, tolerance=8):
    wanted = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)])
    return (np.abs(pixels.astype(int) - wanted).max(axis=2) <= tolerance).mean()


@pytest.mark.parametrize("objective", [Causal, Masked, TwoCopies, Chosen])
def test_a_picture_has_a_white_margin_and_something_in_it(explained, drawn, objective):
    pixels = drawn(explained(objective()))
    assert pixels.shape[1] == 1600
    for edge in (pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]):
        assert (edge == 255).all()
    assert (pixels < 255).any(axis=2).mean() > 0.05


def test_what_is_seen_is_drawn_in_the_colours_of_the_key(explained, drawn):
    causal, masked = drawn(explained(Causal())), drawn(explained(Masked()))
    assert share(causal, "#3568d4") > 0.05  # all have targets
    assert share(masked, "#b9c7e0") > share(masked, "#3568d4") > 0.02  # a third has


def test_texts_of_other_scripts_and_with_dollar_signs_are_drawn_without_a_warning(explained, drawn):
    drawn(explained(Masked(), "日本 $x_1$ \x07 $ " + TWO_DOCUMENTS))


def test_long_rows_and_long_texts_are_drawn(explained, drawn):
    assert drawn(explained(Causal(), "a line of text\n" * 30, length=300, sampled=1)).shape[0] < 8000
