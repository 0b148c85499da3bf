"""What is shown of measured numbers."""

from ntp.tracking.results import results


def test_the_numbers_of_a_component_stand_together_whatever_rows_have_come_first():
    names = ["x/loss", "x/b/loss", "y/loss", "x/a/loss", "own", "y/loss_stderr", "x/row_share"]
    titles = [title for title, _ in results(dict.fromkeys(names, 1.0), "pseudo")]
    assert titles == ["kind of likelihood", "own", "x/loss", "x/row share", "x/b/loss", "x/a/loss", "y/loss"]


def test_numbers_without_components_keep_their_order():
    titles = [title for title, _ in results({"loss": 1.0, "recall": 0.5, "accuracy": 0.5}, "none")]
    assert titles == ["loss", "kind of likelihood", "recall", "accuracy"]


def test_the_likelihood_of_a_component_is_not_shown_under_the_mark_of_the_whole():
    numbers = dict(results({"loss": 1.0, "bits_per_byte": 2.0, "x/bits_per_byte": 3.0}, "bound"))
    assert numbers == {"loss": "1.0000", "bits per byte": "≤ 2.0000", "kind of likelihood": "bound"}
