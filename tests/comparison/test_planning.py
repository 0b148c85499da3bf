"""``ntp plan``, on runs whose answers are written by hand: what varies in them, and how much, is known."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from ntp.comparison.arms import group
from ntp.comparison.collect import collect
from ntp.comparison.planning import plan_sweep
from ntp.comparison.power import Spread, detectable
from ntp.config.errors import ConfigError
from ntp.evaluation.exams.result import Measure, Result, StoredResult
from tests.comparison.simulation import World

COUNT = 200
WORLD = World(count=COUNT, shared=0.0)


@pytest.fixture
def sweep(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """Directories of runs of two widths, with answers of a world; returns the folder that they are in."""

    def make(seeds: int, widths: int = 2, world: World = WORLD) -> Path:
        samples = world.pair(np.random.default_rng(5), seeds, better=0.1)
        for width, sample in zip((32, 64)[:widths], samples, strict=False):
            for index, seed in enumerate(sample.seeds):
                run = tmp_path / "sweep" / f"{width}-{seed}"
                shutil.copytree(trained, run)
                config = yaml.safe_load((run / "config.yaml").read_text())
                config["model"]["width"], config["seed"] = width, seed
                (run / "config.yaml").write_text(yaml.safe_dump(config))
                measure = Measure(sample.sums[index], sample.weights[index], None, "bits per byte", "lower")
                names = [str(code) for code in sample.documents]
                result = Result("continue", "0" * 64, "exact", ("left",), {"bits_per_byte": measure}, names)
                StoredResult(result, 4, {}, 0.0).write(run)
        return tmp_path / "sweep"

    return make


def plan(folder: Path, **options):
    arms, _ = group(collect([str(folder)]).runs)
    return plan_sweep(arms, **options)


def true_spread() -> Spread:
    uneven = np.mean(np.square([1, 2, 3, 4])) / 2.5**2
    heavy = 5 / 3
    return Spread(2 * WORLD.seeds**2, 2 * WORLD.documents**2 * heavy * uneven, 2 * WORLD.inside**2 * uneven)


def test_what_can_be_detected_follows_from_what_varied(sweep):
    found = plan(sweep(12), seeds=4)
    assert [row.seeds for row in found.rows] == [1, 2, 3, 4, 5, 8]
    assert found.documents == COUNT
    for row in found.rows[1:]:
        assert row.difference == pytest.approx(detectable(true_spread(), row.seeds, COUNT), rel=0.4)
        assert row.at_best <= row.difference
    assert found.deviation == pytest.approx(WORLD.seeds, rel=0.5)
    assert found.deviation_low < WORLD.seeds < found.deviation_high


def test_more_documents_detect_less(sweep):
    folder = sweep(3)
    few, many = plan(folder, documents=50), plan(folder, documents=5000)
    assert many.rows[2].difference < few.rows[2].difference
    assert any("are taken to be like the 200 of the exam so far" in note for note in many.notes)


def test_one_configuration_can_not_tell_how_arms_differ_by_document(sweep):
    found = plan(sweep(4, widths=1))
    assert found.spread is not None
    assert found.spread.documents == 0.0
    assert any("no two configurations have numbers of one kind" in note for note in found.notes)


def test_two_seeds_say_how_little_they_know(sweep):
    found = plan(sweep(2, widths=1))
    assert found.deviation_high / found.deviation_low > 10
    assert any("few seeds" in note for note in found.notes)


def test_one_seed_of_each_says_what_can_not_be_known(sweep):
    found = plan(sweep(1))
    assert found.rows == ()
    assert found.spread is None
    assert any("how much a seed matters is not known" in note for note in found.notes)


def test_an_exam_that_nobody_has_taken_is_refused(sweep):
    with pytest.raises(ConfigError, match=r"exam: none of the runs has taken 'contine' \(did you mean 'continue'\?\)"):
        plan(sweep(1), exam="contine")


def test_a_measure_that_the_exam_lacks_is_refused_with_the_nearest(sweep):
    with pytest.raises(ConfigError, match=r"measure: 'continue' has no 'bits_per_bite' \(did you mean 'bits_per_byte'"):
        plan(sweep(1), measure="bits_per_bite")


def test_the_command_prints_a_table_and_what_the_runs_say_already(sweep, ntp):
    outcome = ntp("plan", f"runs=[{sweep(5)}]", "seeds=4", "documents=500")
    assert outcome.status == 0, outcome.stderr
    assert "from 10 runs of 2 configurations: continue" in outcome.stdout
    assert re.search(r"seeds of each +500 documents +any number of documents", outcome.stdout)
    rows = [line.split() for line in outcome.stdout.splitlines() if re.match(r" +\d+ +\S+ +\S+ *$", line)]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "8"]
    assert rows[0][1:] == ["none", "none"]
    assert re.search(r"width=64 better than width=32 by 0\.1\d* ± 0\.\d+ bits per byte", outcome.stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("runs=[nowhere]",), "there is no directory 'nowhere'"),
        (("runs=[.]",), "is not a run directory, and there is none below it"),
        ((), "runs"),
    ],
)
def test_unknown_runs_are_one_line(ntp, arguments, said):
    outcome = ntp("plan", *arguments)
    assert outcome.status == 2
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_runs_without_any_exam_say_what_to_do(trained, ntp):
    outcome = ntp("plan", f"runs=[{trained}]")
    assert outcome.status == 2
    assert "none of the runs has taken 'continue'; ntp evaluate lets them take it" in outcome.stderr
