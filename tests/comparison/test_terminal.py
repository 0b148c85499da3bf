"""A comparison in a terminal."""

import io
import json
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from ntp.comparison.assemble import assemble
from ntp.comparison.collect import collect
from ntp.comparison.terminal import print_comparison
from tests.comparison.made import give_result, make_arm, make_run


def printed(path, width=100, **options):
    text = io.StringIO()
    print_comparison(assemble(collect([str(path)]), **options), Console(file=text, width=width))
    return text.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for objective, value in (("causal", 2.0), ("mlm", 2.5), ("masked_diffusion", 2.4)):
        for width in (64, 128):
            make_arm(root, f"{objective}{width}", 2, value - width / 1000, objective, width=width)
            for seed in range(2):
                run = root / f"{objective}{width}{seed}"
                for exam in ("any_order", "calibration", "cloze", "infill", "minimal_pairs", "length_extrapolation"):
                    give_result(run, exam, value - width / 1000, seed=seed, likelihood="none")
    return root


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(runs, width):
    text = printed(runs, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert text.count(" ± ") >= 7 * 6


def test_the_best_of_a_kind_is_starred_and_verdicts_are_in_words(tmp_path):
    for objective, value in (("causal", 2.0), ("mlm", 2.5)):
        for width in (64, 128):
            make_arm(tmp_path, f"{objective}{width}", 3, value - width / 1000, objective, width=width)
    text = printed(tmp_path)
    assert re.search(r"causal width=64 +1\.94 ± 0\.07 ", text)
    assert re.search(r"causal width=128 +1\.87 ± 0\.07\*", text)
    assert re.search(r"mlm width=128 +~ 2\.37 ± 0\.07\*", text)
    flowing = " ".join(text.split())
    assert "causal width=128 better than causal width=64 by 0.06" in flowing
    assert "kinds are never ranked together" in flowing


def test_a_single_run_is_shown_without_a_rank(tmp_path):
    make_arm(tmp_path, "a", 1, 2.0)
    text = printed(tmp_path)
    assert "How good is causal" in text
    assert "verdicts: none" in text
    assert "*" not in text


def test_what_is_refused_left_out_and_to_be_careful_about_is_said(tmp_path):
    make_arm(tmp_path, "a", 2, 2.0, width=64)
    make_arm(tmp_path, "b", 2, 1.5, width=128, data="f" * 64, changed=True)
    make_run(tmp_path / "dead", seed=7, state="failed")
    text = " ".join(printed(tmp_path).split())
    assert "the runs differ in data" in text
    assert "nothing is ranked; force=true does it all the same" in text
    assert "uncommitted changes" in text
    assert "dead is failed at step 40" in text
    assert "ranked all the same (forced)" in " ".join(printed(tmp_path, force=True).split())


def test_footnotes_of_the_terminal_are_those_that_change_how_a_number_may_be_read(tmp_path):
    said = {
        "caveats": ("2 of 24 questions are left out", "bytes of a position are those of its token in other texts"),
        "notes": ("states are those of the last norm", "whoever finds the shorter text likelier is right in 3 of 4"),
    }
    for width in (64, 128):
        give_result(make_run(tmp_path / f"w{width}", width=width), "probe", likelihood="none", **said)
    give_result(make_run(tmp_path / "other", "mlm"), "probe", likelihood="none", given=("left", "right"))
    text = printed(tmp_path)
    assert text.count("[a,b,c]") == 2
    assert "[a] was given left\n" in re.sub(" +\n", "\n", text)
    assert "[b] 2 of 24 questions are left out" in text
    assert "[c] bytes of a position are those of its token in other texts" in text
    assert "last norm" not in text
    assert "3 of 4" not in text


def test_runs_that_differ_by_their_seed_only_are_not_resolved_and_how_far_they_are_apart(tmp_path):
    make_arm(tmp_path, "a", 3, 2.0)
    flowing = " ".join(printed(tmp_path).split())
    assert re.search(r"seeds 0, 1 and 2 of causal: not resolved: .* \(0\.00\d+ bits per byte at most\)", flowing)


def test_only_the_exam_that_differs_between_runs_is_said_not_to_be_ranked(tmp_path):
    for width, value, digest in ((64, 2.0, "e" * 64), (128, 1.5, "f" * 64)):
        for run in make_arm(tmp_path, f"w{width}", 3, value, width=width):
            give_result(run, "infill", value, seed=int(run.name[-1]), digest=digest)
    flowing = " ".join(printed(tmp_path).split())
    assert "infill: the rows have taken 2 different exams of this name: it is not ranked; force=true" in flowing
    assert "nothing is ranked" not in flowing
    assert "took another exam of this name (ffffffff, the others eeeeeeee)" in flowing
    assert "continue width=128 better than width=64" in flowing
    forced = printed(tmp_path, force=True)
    assert "infill (forced)" in forced
    assert "continue (forced)" not in forced


@pytest.mark.parametrize(
    ("axis", "expected"),
    [("steps", "at 1 optimizer step;"), ("seconds", "at 0.5 s;"), ("bytes", "at 300 B of text read;")],
)
def test_the_equal_amount_is_said_in_one_or_many(tmp_path, axis, expected):
    for width in (64, 128):
        run = make_run(tmp_path / f"w{width}", width=width)
        summary = json.loads((run / "summary.json").read_text())
        summary |= {"progress/step": 1, "progress/seconds": 0.5, "progress/bytes": 300}
        (run / "summary.json").write_text(json.dumps(summary))
    assert expected in " ".join(printed(tmp_path, axis=axis).split())


def test_the_ledger_has_every_cost(tmp_path):
    make_arm(tmp_path, "a", 2, 2.0)
    ledger = printed(tmp_path, width=160).partition("\nledger\n")[2]
    costs = ("steps", "rows", "tokens", "targets", "text", "FLOPs", "time", "memory")
    assert ledger.split()[: len(costs)] == list(costs)
    assert "2 MB" in ledger
