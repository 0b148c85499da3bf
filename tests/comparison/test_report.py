"""The files of a comparison: page, tables and figures."""

import csv
import html
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image, ImageStat

from ntp.comparison.assemble import Comparison, assemble
from ntp.comparison.collect import collect
from ntp.comparison.html import page
from ntp.comparison.report import write_report
from ntp.comparison.tables import FIELDS, records, to_csv, to_json
from tests.comparison.browser import CHROMIUM, Browser
from tests.comparison.made import DOCUMENTS, give_result, make_arm, make_run

EVIL = (
    '</pre></script><script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>&amp;{{7*7}}'
)

# Chromium asks these for itself, whatever page is open.
OF_THE_BROWSER = re.compile(r"\b(clients\d|update|accounts|safebrowsing|optimizationguide-pa)\.google(apis)?\.com")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def buckets(scale: float) -> list[dict]:
    return [
        {"from": 2**k, "to": 2 ** (k + 1), "tokens": 10.0, "bytes": 30.0, "nats": scale * (9 - k), "accuracy": 0.5}
        for k in range(4)
    ]


def curve(shift: float) -> list[dict]:
    return [
        {"from": k / 5, "to": (k + 1) / 5, "confidence": k / 5 + 0.1, "accuracy": k / 5 + shift, "tokens": 10.0}
        for k in range(5)
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objectives of three seeds, with exams, details and text that would like to be a script."""
    root = tmp_path_factory.mktemp("runs")
    for objective, value in (("causal", 2.0), ("masked_diffusion", 2.4)):
        make_arm(root, objective, 3, value, objective, sample=EVIL if objective == "causal" else "=1+1")
        for seed in range(3):
            give_result(
                root / f"{objective}{seed}",
                "calibration",
                value / 50,
                seed=seed,
                likelihood="none",
                unit="",
                measure="ece",
                details={
                    "reliability": {
                        "bins": 5,
                        "before": {"curve": curve(0.05 * value)},
                        "after": {"curve": curve(0.1)},
                    },
                    "by_position": buckets(value),
                },
            )
            give_result(
                root / f"{objective}{seed}",
                "generation",
                value * 10,
                seed=seed,
                likelihood="none",
                unit="of 100",
                better="higher",
                measure="chrf",
                details={"samples": [{"document": "d", "prefix": "def f():", "sample": EVIL, "score": 0.25}]},
            )
    return root


@pytest.fixture(scope="module")
def comparison(runs: Path) -> Comparison:
    return assemble(collect([str(runs)]))


@pytest.fixture(scope="module")
def source(comparison: Comparison) -> str:
    return page(comparison)


@pytest.fixture(scope="module")
def written(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output") / "report"
    write_report(comparison, output)
    return output


class _Outline(HTMLParser):
    """What a page is made of, without the content of its scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


# -- the page, without a browser --


def test_text_of_runs_is_text_and_never_markup(source: str) -> None:
    outline = _Outline(source)
    assert outline.all("img") == []
    assert len(outline.all("script")) == 3
    assert html.escape(EVIL, quote=False).replace("&quot;", '"') in source.replace("&#34;", '"').replace("&#39;", "'")


def test_the_page_asks_nothing_of_a_network(source: str) -> None:
    outline = _Outline(source)
    for tag, attributes in outline.tags:
        for name in ("src", "href", "action", "srcset"):
            address = attributes.get(name, "#")
            assert address.startswith(("#", "data:text/csv")), f"<{tag} {name}={address[:60]}>"
    policy = next(one["content"] for one in outline.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    addresses = set(re.findall(r"""["'`](https?://[^"'`\\\s]*)""", source))
    assert all(one.startswith("http://www.w3.org/") for one in addresses), addresses


def test_every_table_has_headers_a_caption_and_a_csv(source: str) -> None:
    outline = _Outline(source)
    tables = outline.all("table")
    links = [one for one in outline.all("a") if "download" in one]
    assert len(tables) == len(links) == source.count("<figcaption>") - source.count('data-plot="') + 1  # curves: none
    assert {one["download"] for one in links} >= {"matrix.csv", "ledger.csv", "pairs.csv", "equal.csv", "differing.csv"}
    assert source.count('scope="row"') == source.count("<tr>") - len(tables)


def test_every_figure_is_told_in_words(source: str) -> None:
    figures = [attributes for _, attributes in _Outline(source).tags if "data-plot" in attributes]
    assert len(figures) == 3 + 1 + 2
    assert all(len(one["aria-label"]) > 20 and one["role"] == "img" for one in figures)


def test_headings_have_no_gaps(source: str) -> None:
    levels = [int(tag[1]) for tag, _ in _Outline(source).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_csv_of_the_matrix_holds_what_the_matrix_holds(source: str, comparison: Comparison) -> None:
    link = next(one for one in _Outline(source).all("a") if one.get("download") == "matrix.csv")
    header, *rows = csv.reader(io.StringIO(unquote(link["href"].partition(",")[2])))
    assert [row[0] for row in rows] == ["causal", "masked_diffusion"]
    place = header.index("continue ↓ (bits per byte)")
    expected = comparison.columns[1].cells["causal"].estimate
    assert float(rows[0][place]) == pytest.approx(expected.value)


def test_a_spreadsheet_takes_no_text_for_a_formula(runs: Path, tmp_path: Path) -> None:
    from ntp.comparison.sheets import Entry, Sheet

    sheet = Sheet("s", "s", ["a"], [[Entry("=1+1")], [Entry("-x")], [Entry("—")], [Entry("-1.5", -1.5)]])
    assert sheet.csv.splitlines() == ["a", "'=1+1", "'-x", "—", "-1.5"]


def test_the_page_says_what_is_equal_what_differs_and_how_sure_it_is(source: str) -> None:
    text = re.sub(r"<[^>]+>", "", source)
    assert "Which is better, causal or masked_diffusion" in text
    for sign in ("What differs", "What is equal", "by Holm", "model.width", "objective._target_", "Student's t"):
        assert sign in text
    assert "≤ 2.4" in text


def test_a_forced_ranking_is_marked_everywhere(tmp_path: Path) -> None:
    make_arm(tmp_path, "a", 2, 2.0, width=64)
    make_arm(tmp_path, "b", 2, 1.5, width=128, data="f" * 64)
    forced = assemble(collect([str(tmp_path)]), force=True)
    assert "Forced: ranked although these runs must not be ranked." in page(forced)
    assert all(line["forced"] for line in records(forced) if line["table"] == "exams")
    assert to_json(forced)["forced"] is True
    assert to_json(forced)["exams"][0]["forced"] is True
    assert "continue (forced)" in page(forced)
    refused = page(assemble(collect([str(tmp_path)])))
    assert "Nothing is ranked." in refused
    assert "Forced" not in refused


def test_an_exam_that_differs_between_runs_is_marked_alone(tmp_path: Path) -> None:
    for width, value, digest in ((64, 2.0, "e" * 64), (128, 1.5, "f" * 64)):
        for run in make_arm(tmp_path, f"w{width}", 3, value, width=width):
            give_result(run, "infill", value, seed=int(run.name[-1]), digest=digest)
    comparison = assemble(collect([str(tmp_path)]))
    source = page(comparison)
    assert "Not all exams are ranked." in source
    assert "Nothing is ranked." not in source
    lines = [one for one in records(comparison) if one["table"] == "exams" and one["seed"] == "all"]
    assert {one["ranked"] for one in lines if one["exam"] == "continue"} == {True}
    assert {one["ranked"] for one in lines if one["exam"] == "infill"} == {False}
    forced = assemble(collect([str(tmp_path)]), force=True)
    assert {one["forced"] for one in records(forced) if one.get("exam") == "continue"} == {False}
    assert {one["forced"] for one in records(forced) if one.get("exam") == "infill"} == {True}
    assert "infill (forced)" in page(forced)
    assert "continue (forced)" not in page(forced)


def test_the_ledger_of_page_and_csv_has_every_cost(source: str, comparison: Comparison) -> None:
    link = next(one for one in _Outline(source).all("a") if one.get("download") == "ledger.csv")
    header, *rows = csv.reader(io.StringIO(unquote(link["href"].partition(",")[2])))
    costs = {
        "optimizer steps": 40,
        "rows read": 160,
        "tokens read": 4000,
        "targets trained": 2000,
        "bytes of text read": 12000,
        "floating-point operations": 4e7,
        "seconds": 20,
        "peak memory": 2e6,
        "parameters": 1000,
    }
    assert header == ["", *costs]
    assert [float(one) for one in rows[0][1:]] == list(costs.values())
    long = {one["measure"] for one in records(comparison) if one["table"] == "ledger"}
    assert long == {"steps", "rows", "tokens", "targets", "bytes", "flops", "seconds", "memory", "parameters"}


def test_runs_without_any_exam_still_have_a_page(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", "mlm")
    assert "There is no exam to be shown." in page(assemble(collect([str(tmp_path)])))


# -- files --


def test_the_long_csv_has_each_number_once_for_all_seeds_and_once_for_each(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(records(comparison)))))
    own = [one for one in lines if (one["exam"], one["row"]) == ("continue", "causal")]
    assert [one["seed"] for one in own] == ["all", "0", "1", "2"]
    assert float(own[0]["value"]) == pytest.approx(sum(float(one["value"]) for one in own[1:]) / 3)
    assert own[0]["kind"] == "exact"
    assert own[0]["documents"] == str(DOCUMENTS)
    assert [one["value"] for one in lines if one["table"] == "ledger" and one["measure"] == "tokens"] == ["4000.0"] * 2
    assert all(set(one) == set(FIELDS) for one in lines)


def test_the_json_holds_everything_and_no_nan(comparison: Comparison) -> None:
    content = json.loads(json.dumps(to_json(comparison), allow_nan=False))
    assert [row["name"] for row in content["rows"]] == ["causal", "masked_diffusion"]
    assert content["rows"][0]["seeds"] == [0, 1, 2]
    exam = next(one for one in content["exams"] if one["exam"] == "calibration")
    assert exam["pairs"][0]["verdict"]
    assert exam["cells"]["causal"]["estimate"]["documents"] == DOCUMENTS
    assert content["ledger"]["causal"]["flops"]["mean"] == 4e7


def test_figures_are_drawn_as_svg_and_png(written: Path) -> None:
    names = {path.name for path in (written / "figures").iterdir()}
    assert {"exam_continue.svg", "exam_continue.png", "curve_val_loss.svg", "reliability_calibration.png"} <= names
    svg = (written / "figures" / "exam_continue.svg").read_text()
    assert "causal" in svg
    assert "masked_diffusion" in svg
    assert "bits per byte, lower is better" in svg
    picture = Image.open(written / "figures" / "exam_continue.png").convert("L")
    assert len(picture.getcolors(256) or []) > 10


def test_a_report_is_written_over_an_older_one(comparison: Comparison, written: Path) -> None:
    before = (written / "report.csv").read_text()
    write_report(comparison, written, figures=False)
    assert (written / "report.csv").read_text() == before
    assert {path.name for path in written.iterdir()} == {"report.html", "report.csv", "report.json", "figures"}


# -- the page, in a browser --


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(tmp_path_factory.mktemp("profile"))


@needs_browser
def test_a_browser_draws_every_figure_and_asks_nothing_of_a_network(browser: Browser, written: Path) -> None:
    watched = written / "watched.html"
    watch = (
        '<script>window.refused=[];addEventListener("securitypolicyviolation",e=>refused.push(e.blockedURI));'
        'window.wrong=[];addEventListener("error",e=>wrong.push(String(e.message)));</script>'
    )
    tell = (
        '<script>addEventListener("load",()=>setTimeout(()=>{const d=document.documentElement.dataset;'
        "d.refused=JSON.stringify(refused);d.wrong=JSON.stringify(wrong);"
        'd.fetched=performance.getEntriesByType("resource").length},500))</script>'
    )
    text = (written / "report.html").read_text(encoding="utf-8")
    watched.write_text(text.replace("<head>", f"<head>{watch}", 1).replace("</body>\n</html>", f"{tell}</body></html>"))
    try:
        dom = browser.dom(watched)
    finally:
        watched.unlink()
    opening = re.search(r"<html[^>]*>", dom)[0]
    assert 'data-wrong="[]"' in opening
    assert 'data-refused="[]"' in opening
    assert 'data-fetched="0"' in opening
    assert int(re.search(r'data-rendered="(\d+)"', opening)[1]) >= dom.count('data-plot="')
    assert dom.count('class="main-svg"') >= 2 * 6
    assert "<title>owned" not in dom
    assert [one for one in browser.asked if not OF_THE_BROWSER.search(one)] == []


@needs_browser
def test_the_page_is_dark_where_the_reader_wants_it_dark(browser: Browser, written: Path, tmp_path: Path) -> None:
    means = []
    for scheme in ("1", "0"):  # Blink's: light, dark
        path = browser.screenshot(
            written / "report.html",
            tmp_path / f"{scheme}.png",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--window-size=900,1600",
        )
        means.append(ImageStat.Stat(Image.open(path).convert("L")).mean[0])
    assert means[0] > 200
    assert means[1] < 70


@needs_browser
@pytest.mark.parametrize(("medium", "width"), [("screen", 390), ("paper", 718)])  # a phone, and A4 in CSS pixels
def test_nothing_is_wider_than_a_phone_or_a_sheet_of_paper(
    browser: Browser, written: Path, medium: str, width: int
) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    if medium == "paper":
        # As it is printed: with the rules for print, and everything that is folded up unfolded.
        text = text.replace("@media print", "@media all").replace("<details", "<details open")
    page, frame = written / "framed.html", written / "frame.html"
    page.write_text(text, encoding="utf-8")
    # A window can't be as narrow as a phone; a frame can.
    frame.write_text(
        f'<iframe src="framed.html" width={width} height=800 id=f></iframe><script>onload=()=>setTimeout(()=>{{'
        "const d=f.contentDocument.documentElement;document.documentElement.dataset.width=d.scrollWidth;"
        "const plots=[...f.contentDocument.querySelectorAll('.plot .main-svg')];"
        f"const wide=plots.filter(one=>one.getBoundingClientRect().right>{width + 1});"
        "document.documentElement.dataset.wide=plots.length?wide.length:'none';},2000)</script>"
    )
    try:
        opening = re.search(r"<html[^>]*>", browser.dom(frame, "--allow-file-access-from-files"))[0]
    finally:
        frame.unlink()
        page.unlink()
    assert f'data-width="{width}"' in opening
    assert 'data-wide="0"' in opening
