"""`ntp explain`: every option is explained, with the defaults of `ntp train`, and every mistake is one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(one.stem for one in (CONF / "objective").glob("*.yaml"))
KEYS = [
    name for name in yaml.safe_load((CONF / "explain.yaml").read_text()) if name not in ("defaults", "hydra", "data")
]


@pytest.fixture
def explain(ntp, text_file):
    """Run ``ntp explain`` on the little text, with a little model."""

    def explain(*arguments):
        data = [] if any(one.startswith("data=") for one in arguments) else ["data=files", f"data.path={text_file}"]
        return ntp("explain", *data, "data/tokenizer=char", "sampled_rows=8", *arguments)

    return explain


@pytest.mark.parametrize("option", OPTIONS)
def test_every_objective_is_explained_in_all_three_forms(explain, option, tmp_path):
    outcome = explain(f"objective={option}", "output=out", "length=24")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(f"{option}  ntp.objectives.")
    for title in ("likelihood", "reads", "predicts", "this row", "targets"):
        assert title in outcome.stdout
    assert (tmp_path / "out" / f"{option}.png").read_bytes().startswith(b"\x89PNG")
    assert "<title>" in (tmp_path / "out" / f"{option}.html").read_text()


@pytest.mark.parametrize("option", OPTIONS)
def test_every_objective_is_explained_as_it_measures_itself_on_the_least_of_texts(explain, option):
    outcome = explain(f"objective={option}", "split=validation", "text=ab<|endoftext|>b", "data.documents=isolate")
    if outcome.status:  # too little to look ahead
        assert re.fullmatch(r"ntp explain: text: has \d tokens, too few to predict any; .*\n", outcome.stderr)
    else:
        assert outcome.stderr == ""


def test_rows_of_the_held_out_text_are_explained_on_request(explain):
    assert "of the validation text" in explain("objective=mlm", "split=validation").stdout


def test_what_is_shown_is_a_function_of_the_seed(explain):
    first, second, other = (explain(f"seed={seed}").stdout for seed in (0, 0, 1))
    assert first == second != other


def test_another_row_and_another_length_are_shown_on_request(explain):
    assert "row 3 of" in explain("row=3").stdout
    assert "65 tokens of text become 64 positions" in explain("length=64").stdout
    assert "65 tokens of text become 64 positions" in explain("data.sequence_length=64").stdout


@pytest.mark.parametrize("text", ["def main():", "a, b = {1: 2}", "it's", "x=[", "null", "5", 'say "<b>"'])
def test_a_text_is_any_text(explain, text):
    outcome = explain("data/tokenizer=bytes", f"text={text}")
    assert outcome.status == 0, outcome.stderr
    assert text in outcome.stdout


def test_the_objectives_own_arguments_are_obeyed_and_shown(explain):
    outcome = explain("objective=mlm", "objective.rate=1", "objective.mask_fraction=1", "objective.random_fraction=0")
    assert "rate=1" in outcome.stdout
    (line,) = (one for one in outcome.stdout.splitlines() if "mask tokens" in one)
    assert "100.0% of positions" in line


def test_width_is_obeyed(explain):
    assert max(map(len, explain("width=60").stdout.splitlines())) <= 60


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["row=100000"], r"row: there are \d+ rows; the last is \d+"),
        (["text="], "text: there is nothing in it"),
        (["width=10"], "width: should be greater than or equal to 40, not 10"),
        (["progress=1.5"], "progress: should be less than 1, not 1.5"),
        (["length=0"], "length: should be greater than 0, not 0"),
        (["objective=block_diffusion", "length=1"], "length: a row holds its text twice; at least 2"),
        (["length=100000000"], "length: the training text has .*"),
        (["widht=50"], r"widht: no such key \(did you mean 'width'\?\)"),
        (["objective=mlmm"], r"objective: there is no 'mlmm' \(did you mean 'mlm'\?\)"),
        (["objective=mlm", "objective.rate=2"], "objective.rate: should be less than or equal to 1, not 2"),
        (["output=/dev/null/x"], "output: /dev/null/x cannot be written .*"),
        (["data=files"], "data.path: needs a value"),
    ],
)
def test_a_mistake_is_one_line_with_the_key_and_status_2(explain, arguments, expected):
    outcome = explain(*arguments)
    assert outcome.status == 2
    assert re.fullmatch(f"ntp explain: {expected}\n", outcome.stderr)


def test_without_matplotlib_the_page_is_written_and_one_line_says_what_is_missing(explain, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "ntp.explain.png", raising=False)
    for name in [one for one in sys.modules if one.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "matplotlib":
                raise ModuleNotFoundError(f"No module named '{name}'", name="matplotlib")

    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    outcome = explain("output=out")
    assert outcome.status == 0, outcome.stderr
    assert 'pip install "ntp[figures]"' in outcome.stdout
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["causal.html"]


def test_the_terminal_alone_needs_no_matplotlib(text_file, tmp_path):
    code = (
        "import sys; from ntp.cli import main\n"
        f"main(['explain', 'data=files', 'data.path={text_file}', 'data/tokenizer=char', 'sampled_rows=2'])\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert not {"matplotlib", "jinja2.environment", "lightning"} & loaded


def test_help_says_what_each_own_key_does(ntp):
    outcome = ntp("explain", "--help")
    assert outcome.status == 0
    usage = outcome.stdout.split("groups and their options")[0]
    for key in set(KEYS) - {"allow_targets", "print_config"}:
        assert f"{key}=" in usage
