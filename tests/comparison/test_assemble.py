"""What may be ranked, what is best, and what forbids it."""

from dataclasses import replace

import numpy as np
import pytest

from ntp.comparison.assemble import assemble
from ntp.comparison.collect import collect
from ntp.comparison.matrix import Row
from ntp.config.errors import ConfigError
from ntp.evaluation.exams.result import read_results
from tests.comparison.made import DOCUMENTS, give_result, make_arm, make_run


def compared(path, **options):
    return assemble(collect([str(path)]), **options)


def verdict_of(comparison, exam="continue"):
    (column,) = [one for one in comparison.columns if one.exam == exam]
    return [pair.verdict for pair in column.pairs]


def test_two_runs_that_differ_by_their_seed_only_are_not_resolved(tmp_path):
    # Arms whose configurations differ in what changes nothing: their numbers differ by the luck of seeds.
    for name, width in (("a", 64), ("b", 65)):
        for seed in range(3):
            run = make_run(tmp_path / f"{name}{seed}", seed=seed, width=width)
            give_result(run, value=2.0, seed=seed + width, noise=0.02)
    comparison = compared(tmp_path)
    (sentence,) = verdict_of(comparison)
    assert sentence.startswith("not resolved")
    assert not any(cell.best for cell in comparison.columns[0].cells.values())


def test_one_seed_each_resolves_nothing(tmp_path):
    make_arm(tmp_path, "a", 1, 2.0, width=64)
    make_arm(tmp_path, "b", 1, 1.0, width=128)
    comparison = compared(tmp_path)
    assert verdict_of(comparison)[0].startswith("not resolved: one seed each")
    assert not any(cell.best for cell in comparison.columns[0].cells.values())


def test_a_truly_better_arm_is_the_best_and_by_how_much(tmp_path):
    make_arm(tmp_path, "a", 3, 2.0, width=64)
    make_arm(tmp_path, "b", 3, 1.9, width=128)
    comparison = compared(tmp_path)
    (sentence,) = verdict_of(comparison)
    assert sentence.startswith("width=128 better than width=64 by 0.1")
    assert sentence.endswith("bits per byte")
    assert [name for name, cell in comparison.columns[0].cells.items() if cell.best] == ["width=128"]


def test_more_is_better_where_a_measure_says_so(tmp_path):
    for name, width, value in (("a", 64, 0.5), ("b", 128, 0.7)):
        for seed in range(3):
            run = make_run(tmp_path / f"{name}{seed}", seed=seed, width=width)
            give_result(run, "pairs", value, seed=seed, likelihood="none", unit="", better="higher", measure="accuracy")
    assert "width=128 better than width=64" in verdict_of(compared(tmp_path), "pairs")[0]


def test_the_best_must_be_better_than_every_other(tmp_path):
    make_arm(tmp_path, "a", 3, 2.0, width=32)
    for width in (64, 65):
        for seed in range(3):
            run = make_run(tmp_path / f"b{width}{seed}", seed=seed, width=width)
            give_result(run, value=1.5, seed=seed + width, noise=0.02)
    column = compared(tmp_path).columns[0]
    assert not any(cell.best for cell in column.cells.values())
    assert sum(" better than " in pair.verdict for pair in column.pairs) == 2


def test_kinds_are_never_ranked_together(tmp_path):
    make_arm(tmp_path, "a", 3, 2.0, "causal")
    make_arm(tmp_path, "b", 3, 1.0, "masked_diffusion")
    make_arm(tmp_path, "c", 3, 0.5, "mlm")
    column = compared(tmp_path).columns[0]
    assert column.pairs == []
    assert [cell.text[:2] for cell in column.cells.values()] == ["2.", "≤ ", "~ "]
    assert not any(cell.best for cell in column.cells.values())


def test_an_answer_that_was_told_more_does_not_win_over_one_that_was_told_less(tmp_path):
    for width, value, given in ((64, 2.0, ("left",)), (128, 1.0, ("left", "right"))):
        for seed in range(3):
            run = make_run(tmp_path / f"{width}{seed}", seed=seed, width=width)
            give_result(run, value=value, seed=seed, given=given)
    assert compared(tmp_path).columns[0].pairs == []


def test_a_refusal_is_a_dash_with_its_reason(tmp_path):
    make_arm(tmp_path, "a", 2, 2.0, width=64)
    for seed in range(2):
        run = make_run(tmp_path / f"b{seed}", seed=seed, width=128)
        give_result(run, seed=seed, refusal="it has no native means to continue")
        stored = next((run / "exams").glob("*.json"))
        stored.write_text(stored.read_text().replace('"bits_per_byte": {', '"hidden": {'))
    cell = compared(tmp_path).columns[0].cells["width=128"]
    assert (cell.text, cell.reason) == ("—", "it has no native means to continue")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({"data": "f" * 64}, "data"), ({"tokenizer": "[]"}, "tokenizer"), ({"commit": "b" * 40}, "code")],
)
def test_runs_that_differ_in_what_they_stand_on_are_ranked_only_when_forced(tmp_path, setting, expected):
    make_arm(tmp_path, "a", 3, 2.0, width=64)
    make_arm(tmp_path, "b", 3, 1.5, width=128, **setting)
    comparison = compared(tmp_path)
    assert [reason.split(":")[0] for reason in comparison.refusals] == [f"the runs differ in {expected}"]
    assert "width=64" in comparison.refusals[0]
    assert verdict_of(comparison) == []
    assert not comparison.ranked
    forced = compared(tmp_path, force=True)
    assert forced.forced
    assert " better than " in verdict_of(forced)[0]


def test_other_questions_under_the_same_name_are_not_compared_even_when_forced(tmp_path):
    make_arm(tmp_path, "a", 3, 2.0, width=64)
    make_arm(tmp_path, "b", 3, 1.5, width=128)
    for seed in range(2):
        give_result(make_run(tmp_path / f"c{seed}", seed=seed, width=256), value=1.0, seed=seed, digest="f" * 64)
    comparison = compared(tmp_path)
    assert comparison.objections == ["continue: the rows have taken 2 different exams of this name"]
    assert verdict_of(comparison) == []
    (pair,) = compared(tmp_path, force=True).columns[0].pairs
    assert {pair.first, pair.second} == {"width=64", "width=128"}


def test_an_exam_that_differs_between_runs_is_not_ranked_and_the_others_are(tmp_path):
    for width, value, digest in ((64, 2.0, "e" * 64), (128, 1.5, "f" * 64)):
        for run in make_arm(tmp_path, f"w{width}", 3, value, width=width):
            give_result(run, "infill", value, seed=int(run.name[-1]), digest=digest)
    comparison = compared(tmp_path)
    assert comparison.ranked
    assert comparison.refusals == []
    assert "width=128 better than width=64" in verdict_of(comparison, "continue")[0]
    assert verdict_of(comparison, "infill") == []
    mixed = next(one for one in comparison.columns if one.exam == "infill")
    assert all(cell.estimate is not None and not cell.best for cell in mixed.cells.values())
    forced = compared(tmp_path, force=True)
    assert [(one.exam, forced.forces(one)) for one in forced.columns] == [("continue", False), ("infill", True)]


def test_no_exams_are_none(tmp_path):
    make_arm(tmp_path, "a", 2, 2.0)
    comparison = compared(tmp_path, exams=[])
    assert comparison.columns == []
    assert comparison.without_verdicts == "there is no exam"
    assert len(compared(tmp_path, exams=["continue", "continue"]).columns) == 1


def test_what_does_not_forbid_a_ranking_is_said(tmp_path):
    make_arm(tmp_path, "a", 2, 2.0, width=64, changed=True)
    make_arm(tmp_path, "b", 2, 1.5, width=128, steps=80)
    text = "\n".join(compared(tmp_path).cautions)
    assert "uncommitted changes" in text
    assert "the arms have not spent the same: optimizer steps" in text


def test_an_unknown_exam_or_reference_is_an_error_with_the_nearest(tmp_path):
    make_arm(tmp_path, "a", 1, 2.0)
    with pytest.raises(ConfigError, match=r"exams: no run has taken 'continued' \(did you mean 'continue'\?\)"):
        compared(tmp_path, exams=["continued"])
    with pytest.raises(ConfigError, match=r"reference: there is no arm 'casual' \(did you mean 'causal'\?\)"):
        compared(tmp_path, reference="casual")


def test_verdicts_are_told_against_the_reference(tmp_path):
    for width, value in ((32, 2.2), (64, 2.0), (128, 1.8)):
        make_arm(tmp_path, f"w{width}", 3, value, width=width)
    column = compared(tmp_path, reference="width=64").columns[0]
    assert {frozenset((one.first, one.second)) for one in column.pairs if one.shown} == {
        frozenset(("width=64", "width=32")),
        frozenset(("width=64", "width=128")),
    }


def test_runs_that_were_asked_about_other_documents_are_compared_on_those_of_both(tmp_path):
    make_arm(tmp_path, "a", 3, 2.0, width=64)
    for seed in range(3):
        run = make_run(tmp_path / f"b{seed}", seed=seed, width=128)
        give_result(run, value=1.8, seed=seed, documents=12)
    (pair,) = compared(tmp_path).columns[0].pairs
    assert any("12 of 24 questions" in caveat for caveat in pair.difference.caveats)
    assert pair.difference.documents == 12


def rewrite(run, change):
    """Let what came of the only exam of a run be something else."""
    stored = read_results(run)[0]
    result = change(stored.result)
    replace(stored, result=result).write(run)


def test_two_arms_are_compared_on_the_questions_that_both_answered_also_within_a_document(tmp_path):
    def questions(result, skips):
        # Of each document's two questions the second is far harder; who skips it looks better.
        sums = np.repeat(result.measures["bits_per_byte"].sums, 2) * np.tile([1.0, 3.0], DOCUMENTS)
        weights = np.full(2 * DOCUMENTS, 100.0)
        if skips:
            sums[1::2] = weights[1::2] = 0.0
        measures = {"bits_per_byte": replace(result.measures["bits_per_byte"], sums=sums, weights=weights)}
        return replace(result, measures=measures, documents=np.repeat(result.documents, 2).tolist())

    for width, value in ((64, 2.0), (128, 1.9)):
        for run in make_arm(tmp_path, f"w{width}", 3, value, width=width):
            rewrite(run, lambda result, skips=width == 64: questions(result, skips))
    column = compared(tmp_path).columns[0]
    assert column.cells["width=64"].estimate.value < column.cells["width=128"].estimate.value
    (pair,) = column.pairs
    assert pair.verdict.startswith("width=128 better than width=64 by 0.1")
    assert pair.difference.documents == DOCUMENTS
    assert any("24 of 48 questions" in caveat for caveat in pair.difference.caveats)


def test_a_seed_without_a_finite_number_leaves_a_dash_that_says_so(tmp_path):
    make_arm(tmp_path, "a", 3, 2.0, width=64)
    runs = make_arm(tmp_path, "b", 3, 1.5, width=128)
    rewrite(
        runs[1],
        lambda result: replace(
            result,
            measures={"bits_per_byte": replace(result.measures["bits_per_byte"], sums=np.full(DOCUMENTS, np.nan))},
        ),
    )
    column = compared(tmp_path).columns[0]
    cell = column.cells["width=128"]
    assert (cell.text, cell.reason) == ("—", "the number of seed 1 is not finite")
    assert column.pairs == []
    assert not column.cells["width=64"].best


def test_runs_with_an_older_version_of_an_exam_are_compared_on_the_larger_one_and_that_is_said(tmp_path):
    for run in make_arm(tmp_path, "a", 2, 2.0):
        for digest, documents in (("0" * 64, 12), ("f" * 64, 10)):
            give_result(run, value=1.0, digest=digest, documents=documents)
    comparison = compared(tmp_path)
    assert comparison.columns[0].digest == "e" * 64
    assert any("3 different exams of this name; compared is eeeeeeee" in line for line in comparison.cautions)
    assert comparison.refusals == []


def test_verdicts_are_about_arms_also_where_a_baseline_is_the_best(tmp_path):
    make_arm(tmp_path / "runs", "a", 3, 2.0, width=64)
    make_arm(tmp_path / "runs", "b", 3, 1.8, width=128)
    baselines = []
    for name, value in (("ngram", 1.0), ("uniform", 4.0)):
        give_result(other := make_run(tmp_path / name, seed=9), value=value, seed=9)
        baselines.append(Row(name, True, [{"continue": collect([str(other)]).runs[0].results[0]}], ()))
    column = assemble(collect([str(tmp_path / "runs")]), baselines=baselines).columns[0]
    assert column.cells["ngram"].best
    shown = [{one.first, one.second} for one in column.pairs if one.shown]
    assert shown == [{"width=128", other} for other in ("width=64", "ngram", "uniform")]


def test_a_baseline_without_seeds_stands_below_the_arms_and_is_ranked_with_its_kind(tmp_path):
    runs = make_arm(tmp_path / "runs", "a", 3, 2.0)
    other = make_run(tmp_path / "other", seed=9)
    give_result(other, value=3.0, seed=9)
    collection = collect([str(runs[0].parent)])
    results = {"continue": collect([str(other)]).runs[0].results[0]}
    baseline = Row("ngram", True, [results], (), costs={"bytes": 5.0})
    comparison = assemble(collection, baselines=[baseline])
    assert list(comparison.columns[0].cells) == ["causal", "ngram"]
    assert "causal better than ngram" in verdict_of(comparison)[0]
    assert comparison.columns[0].cells["causal"].best
    assert comparison.ledger["ngram"]["bytes"].mean == 5.0


# -- at an equal cost --


def test_a_result_of_the_end_speaks_for_a_run_and_one_of_another_step_says_so(tmp_path):
    for name, steps in (("a", (20, 40, 60)), ("b", (20,))):
        run = make_run(tmp_path / name, width=64 + len(steps), steps=40)
        for step in steps:
            give_result(run, value=step / 10, step=step)
    cells = compared(tmp_path).columns[0].cells
    assert {name: round(cell.estimate.value, 1) for name, cell in cells.items()} == {"width=65": 2.0, "width=67": 4.0}
    assert cells["width=67"].caveats == ()
    assert cells["width=65"].caveats == (f"{tmp_path / 'b'}: the result is of step 20, the run has done 40",)


def test_every_way_in_which_results_were_made_differently_is_said(tmp_path):
    for width, draws, precision in ((64, 1, "32-true"), (128, 8, "bf16-mixed")):
        run = make_run(tmp_path / str(width), "masked_diffusion", width=width)
        give_result(run, likelihood="bound", draws=draws, precision=precision)
    cautions = "; ".join(compared(tmp_path).cautions)
    assert "continue: taken with different draws: 8 (width=128); 1 (width=64)" in cautions.replace(
        "1 (width=64); 8 (width=128)", "8 (width=128); 1 (width=64)"
    )
    assert "continue: taken with different precision: " in cautions


def test_at_equal_cost_a_longer_run_is_read_where_the_shorter_one_ended(tmp_path):
    for seed in range(2):
        short = make_run(tmp_path / f"a{seed}", seed=seed, width=64, steps=40)
        give_result(short, value=2.0, seed=seed, step=40, noise=0.0)
        long = make_run(tmp_path / f"b{seed}", seed=seed, width=128, steps=80)
        for step, value in ((20, 3.0), (80, 1.0)):
            give_result(long, value=value, seed=seed, step=step, noise=0.0)
    assert compared(tmp_path).columns[0].cells["width=128"].estimate.value == pytest.approx(1.0)
    comparison = compared(tmp_path, axis="steps")
    assert comparison.amount == 40
    # Half way between 20 and 80 steps, in the logarithm.
    assert comparison.columns[0].cells["width=128"].estimate.value == pytest.approx(2.0)
    assert any("width=128 is read at 50% of its run" in line for line in comparison.cautions)


def test_a_run_that_took_its_exam_at_another_cost_only_has_a_gap_there(tmp_path):
    make_arm(tmp_path, "a", 2, 2.0, width=64)
    make_arm(tmp_path, "b", 2, 1.5, width=128, flops_per_step=2e6)
    comparison = compared(tmp_path, axis="flops")
    cell = comparison.columns[0].cells["width=128"]
    assert cell.text == "—"
    assert cell.reason == "has taken it at 80 MFLOPs, not at 40 MFLOPs"
    assert compared(tmp_path, axis="tokens").columns[0].cells["width=128"].text != "—"


def test_a_cost_that_was_not_counted_can_not_be_matched_on(tmp_path):
    run = make_arm(tmp_path, "a", 1, 2.0)[0]
    summary = run / "summary.json"
    summary.write_text(summary.read_text().replace("progress/flops", "progress/other"))
    with pytest.raises(ConfigError, match=r"match: .* has not counted its floating-point operations"):
        compared(tmp_path, axis="flops")
