"""What is shown of measured numbers."""

from ntp.tracking.results import results


def test_the_numbers_of_a_component_stand_together_whatever_rows_have_come_first():
    names = ["x/loss", "x/b/loss", "y/loss", "x/a/loss", "own", "y/loss_stderr", "x/rows"]
    titles = [title for title, _ in results(dict.fromkeys(names, 1.0), "pseudo")]
    assert titles == ["kind of likelihood", "own", "x/loss", "x/rows", "x/b/loss", "x/a/loss", "y/loss"]


def test_numbers_without_components_keep_their_order():
    titles = [title for title, _ in results({"loss": 1.0, "recall": 0.5, "accuracy": 0.5}, "none")]
    assert titles == ["loss", "kind of likelihood", "recall", "accuracy"]
