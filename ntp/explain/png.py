"""An explanation as a picture, for a paper or a page. Needs matplotlib, the extra ``figures``.

All lengths are points of 1/72 inch, measured from the upper left corner.
"""

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image
from rich.cells import cell_len, set_cell_size

from ntp.explain.explanation import ExplainedRow, Explanation, Position
from ntp.explain.measures import measures
from ntp.explain.pieces import Kind, Piece

_INK, _SOFT, _FAINT, _LINE = "#1b2230", "#5d6879", "#a2abba", "#d5dae3"
_EMPTY, _SEES, _TRAINED = "#f1f3f7", "#b9c7e0", "#3568d4"
_TARGET, _TARGET_GROUND = "#0a7446", "#e1f4ea"
_COLOURS: dict[Kind, tuple[str, str]] = {
    "text": (_INK, "#ffffff"),
    "mask": ("#6427b3", "#eadcfb"),
    "sentinel": ("#7d4a00", "#fde6bb"),
    "marker": ("#085c63", "#cdeef0"),
    "end": ("#3f4b63", "#dfe5ee"),
    "padding": (_FAINT, "#ffffff"),
}
_MONO = ["DejaVu Sans Mono", "Noto Sans Mono CJK JP", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Unifont"]
_SANS = ["DejaVu Sans", *_MONO[1:]]
_ADVANCE = 0.602
"""Width of a character of DejaVu Sans Mono over its size."""

_WIDTH, _MARGIN, _DPI = 720.0, 24.0, 160
_COLOURS_OF_FILE = 160
_TOKEN = 8.0
_CELL_TEXT = 14
_SHOWN_PADDING = 2
_RAW_LINES = 8
_DRAWN = 512
_LABELLED = 72
"""Positions of the matrix up to which each has a label."""


def save(explanation: Explanation, path: Path) -> None:
    """Write the picture.

    Args:
        explanation: of any objective.
        path: of the PNG file.

    Raises:
        OSError: it cannot be written.
    """
    # The height is known only when all is placed, and text is placed by the size of the page: draw twice.
    height = _Page(explanation, 1000.0).height
    page = _Page(explanation, height)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        page.canvas.draw()
    picture = Image.fromarray(np.asarray(page.canvas.buffer_rgba())[..., :3].copy())
    # Few colours, so a palette holds the picture in a third of the bytes.
    picture.quantize(_COLOURS_OF_FILE, dither=Image.Dither.NONE).save(path, optimize=True, dpi=(_DPI, _DPI))


class _Page:
    """Everything, drawn from top to bottom."""

    def __init__(self, explanation: Explanation, height: float) -> None:
        self.figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=_DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self.page_height = height
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, _WIDTH), ylim=(height, 0))
        self.axes.axis("off")
        known = set(get_font_names())
        self.mono = [one for one in _MONO if one in known]
        self.sans = [one for one in _SANS if one in known]

        y = self.heading(explanation)
        if len(explanation.rows) == 1:
            (row,) = explanation.rows
            y = self.raw(row, _MARGIN, y, _WIDTH - 2 * _MARGIN) + 12
            y = self.strip(row, _MARGIN, y, _WIDTH - 2 * _MARGIN) + 8
            y = max(self.matrix(row, _MARGIN, y, 450.0, labelled=True), self.numbers(row, explanation, 505.0, y + 34))
        else:
            for row in explanation.rows:
                name = row.component.name if row.component else ""
                share = f"{row.sample.rows / explanation.sample.rows:.0%} of {explanation.sample.rows} "
                self.text(_MARGIN, y + 10, name, 10, bold=True, mono=True)
                self.text(_WIDTH - _MARGIN, y + 10, share + explanation.sample_of, 7.5, _SOFT, "right")
                bottom = self.strip(row, _MARGIN, y + 20, 470.0)
                y = max(bottom, self.matrix(row, 515.0, y + 20, 181.0, labelled=False)) + 12
        self.height = y + _MARGIN

    def text(
        self, x: float, y: float, text: str, size: float, colour: str = _INK, align: Any = "left", **style: Any
    ) -> None:
        """Write a line with its baseline at y."""
        self.axes.text(
            x,
            y,
            text,
            size=size,
            color=colour,
            ha=align,
            va=style.get("va", "baseline"),
            family=self.mono if style.get("mono") else self.sans,
            weight="bold" if style.get("bold") else "normal",
            rotation=style.get("rotation", 0),
            rotation_mode="anchor",
            parse_math=False,
        )

    def heading(self, explanation: Explanation) -> float:
        """Name, sentence and facts."""
        y = _MARGIN + 14
        self.text(_MARGIN, y, explanation.name, 17, bold=True, mono=True)
        self.text(_WIDTH - _MARGIN, y, explanation.class_name, 7.5, _SOFT, "right", mono=True)
        y += 19
        for line in textwrap.wrap(explanation.sentence, 114):
            self.text(_MARGIN, y, line, 10.5)
            y += 14
        facts = {one.name: one.value for one in explanation.facts}
        line = f"attention {facts['attention']}   ·   likelihood {facts['likelihood']}   ·   {facts['row']}"
        self.text(_MARGIN, y + 1, line, 8, _SOFT)
        return y + 16

    def raw(self, row: ExplainedRow, x: float, y: float, width: float) -> float:
        """The text of the row, a bar beside each document."""
        top, columns = y, int((width - 24) / (7.5 * _ADVANCE))
        y += 4
        for document in row.documents:
            begin = y
            lines = document.text.removesuffix("\n").expandtabs(4).split("\n")
            folded = [part for line in lines for part in (textwrap.wrap(line, columns, drop_whitespace=False) or [""])]
            for number, line in enumerate(folded[:_RAW_LINES], start=1):
                y += 10.5
                printable = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)
                self.text(x + 12, y, printable, 7.5, mono=True)
                if number == _RAW_LINES < len(folded):
                    self.text(x + width - 8, y, f"{len(folded) - number} more lines", 6.5, _SOFT, "right")
                elif number == len(folded) and document.ends:
                    end = x + 12 + (cell_len(printable) + 1) * 7.5 * _ADVANCE
                    self.box(end, y - 7, 17, 9, _COLOURS["end"][1], "none", 2)
                    self.text(end + 8.5, y, "end", 6.5, _COLOURS["end"][0], "center", mono=True)
            self.axes.add_artist(Line2D([x + 5, x + 5], [begin + 3.5, y + 2], color=_FAINT, lw=1))
            y += 3
        self.box(x, top, width, y + 4 - top, "#f8f9fb", "none").set_zorder(0)
        return y + 4

    def strip(self, row: ExplainedRow, x: float, y: float, width: float) -> float:
        """The positions, as many beside each other as fit, each with its target below."""
        shown = _shown(row)
        further = list(row.positions[0].further_tokens)
        lines = 2 + len(further) + row.weighted
        left, high = x, 9 + 14.0 * lines - 4 * row.weighted
        for position in shown:
            pieces = [position.reads, position.predicts, *position.further_tokens.values()]
            texts = [_short(one.text) for one in pieces if one]
            index = f"{position.index}" + (f" r{position.order}" if row.ranked and not position.is_padding else "")
            columns = max(max(map(cell_len, texts)), len(index) * 0.62)
            wide = max(columns * _TOKEN * _ADVANCE + 8, 17)
            if left + wide > x + width and left > x:
                left, y = x, y + high + 5
            self.cell(position, row, left, y, wide, high, index)
            left += wide + 3
        if hidden := len(row.positions) - len(shown):
            self.text(left + 3, y + high / 2 + 3, f"+{hidden}", 7, _SOFT)
        return self.key(row, x, y + high + 13, width)

    def cell(
        self, position: Position, row: ExplainedRow, x: float, y: float, wide: float, high: float, index: str
    ) -> None:
        """One position."""
        trained = position.predicts is not None
        if trained:
            self.box(x, y, wide, high, _TARGET_GROUND, "none")
            self.axes.add_artist(Rectangle((x + 0.6, y + 3), wide - 1.2, 19.5, fc="white", ec="none"))
        dashed = (0, (2.2, 1.6)) if position.private else "-"
        edge = _FAINT if position.private else "#7fbf9f" if trained else _LINE
        self.box(x, y, wide, high, "none", edge, linestyle=dashed)
        self.text(x + wide / 2, y + 7.5, index, 4.8, _FAINT, "center", mono=True)
        self.piece(position.reads, x + wide / 2, y + 16.5)
        targets = [position.predicts, *position.further_tokens.values()]
        for number, piece in enumerate(targets):
            if piece is None:
                self.text(x + wide / 2, y + 32 + 13.5 * number, "–", 6.5, _FAINT, "center")
            else:
                self.piece(piece, x + wide / 2, y + 31 + 13.5 * number, target=True)
        if row.weighted and trained:
            below = y + 27.5 + 13.5 * len(targets)
            self.text(x + wide / 2, below, f"×{position.weight:.3g}", 5, _SOFT, "center", mono=True)

    def piece(self, piece: Piece, x: float, y: float, target: bool = False) -> None:
        """A token, centred at (x, y)."""
        text = _short(piece.text)
        ink, ground = _COLOURS[piece.kind]
        if piece.is_special and piece.kind != "padding":
            wide = cell_len(text) * _TOKEN * _ADVANCE + 4
            self.box(x - wide / 2, y - 5.2, wide, 10.4, ground, "none", 2)
        elif target:
            ink = _TARGET
        self.text(x, y, text, _TOKEN, ink, "center", mono=True, va="center_baseline", bold=target)

    def box(
        self, x: float, y: float, wide: float, high: float, ground: str, edge: str, radius: float = 3, **style: Any
    ) -> FancyBboxPatch:
        """A rounded rectangle."""
        shape = f"round,pad=0,rounding_size={radius}"
        patch = FancyBboxPatch((x, y), wide, high, shape, fc=ground, ec=edge, lw=0.6, **style)
        self.axes.add_artist(patch)
        return patch

    def key(self, row: ExplainedRow, x: float, y: float, width: float) -> float:
        """What the signs mean, on as many lines as it takes."""
        kinds = {piece.kind for one in row.used for piece in (one.reads, one.predicts) if piece}
        text = "".join(one.reads.text for one in row.used)
        parts = ["above: read, below: predicted"]
        parts += ["×2: weight of the loss"] if row.weighted else []
        parts += ["r3: rank"] if row.ranked else []
        parts += ["dashed: private, seen only by its own rank"] if any(one.private for one in row.used) else []
        parts += ["S0, S1 …: removed spans"] if "sentinel" in kinds else []
        parts += [f"{sign}: {name}" for sign, name in (("·", "space"), ("↵", "line break")) if sign in text]
        for line in textwrap.wrap("    ".join(one.replace(" ", "\xa0") for one in parts), int(width / 3.75)):
            self.text(x, y, line, 7, _SOFT)
            y += 10
        return y

    def matrix(self, row: ExplainedRow, x: float, y: float, width: float, labelled: bool) -> float:
        """Who sees whom; with labels: what is read on the left and on top, what is predicted on the right."""
        shown = _shown(row)[:_DRAWN]
        size = len(shown)
        labelled = labelled and size <= _LABELLED
        before = 46.0 if labelled else 0.0
        side = width - 2 * before
        if labelled:
            y += 42
        trained = np.array([one.predicts is not None for one in shown], dtype=bool)[:, None]
        sees = row.sees[:size, :size].astype(int)
        inner = self.figure.add_axes(
            ((x + before) / _WIDTH, 1 - (y + side) / self.page_height, side / _WIDTH, side / self.page_height)
        )
        inner.imshow(
            sees + (sees & trained),
            cmap=ListedColormap([_EMPTY, _SEES, _TRAINED]),
            vmin=0,
            vmax=2,
            interpolation="nearest",
            extent=(0, size, size, 0),
            aspect="auto",
        )
        if size <= 96:
            across = [[(0, k), (size, k)] for k in range(1, size)]
            down = [[(k, 0), (k, size)] for k in range(1, size)]
            inner.add_collection(LineCollection(across + down, colors="white", linewidths=0.35), autolim=False)
        for k in range(1, size):
            if shown[k].segment != shown[k - 1].segment and not shown[k].is_padding:
                inner.axhline(k, color=_INK, lw=0.7, ls=(0, (3, 2)))
                inner.axvline(k, color=_INK, lw=0.7, ls=(0, (3, 2)))
        inner.set(xticks=[], yticks=[])
        for spine in inner.spines.values():
            spine.set(color=_LINE, linewidth=0.5)
        if labelled:
            self.labels(shown, x + before, y, side)
        return self.matrix_key(x + before, y + side + 10, labelled)

    def labels(self, shown: Sequence[Position], x: float, y: float, side: float) -> None:
        """Tokens around the matrix."""
        step = side / len(shown)
        font = min(step * 0.74, 7.5)
        for one in shown:
            colour, bold = (_COLOURS[one.reads.kind][0] if one.reads.is_special else _SOFT), one.reads.is_special
            text, middle = _short(one.reads.text, 9), (one.index + 0.5) * step
            self.text(x - 3, y + middle, text, font, colour, "right", mono=True, va="center_baseline", bold=bold)
            self.text(x + middle, y - 3, text, font, colour, mono=True, va="center_baseline", bold=bold, rotation=90)
            if one.predicts:
                text = _short(one.predicts.text, 9)
                self.text(x + side + 3, y + middle, text, font, _TARGET, mono=True, va="center_baseline", bold=True)

    def matrix_key(self, x: float, y: float, labelled: bool) -> float:
        """What its colours mean."""
        parts = [(_TRAINED, "seen by a position with a target"), (_SEES, "by one without")]
        for colour, meaning in parts:
            self.axes.add_artist(Line2D([x + 3], [y - 2.4], marker="s", ms=4.6, color=colour, mec="none", ls=""))
            self.text(x + 10, y, meaning, 7 if labelled else 6, _SOFT)
            x += 158 if labelled else 112
        return y + 8

    def numbers(self, row: ExplainedRow, explanation: Explanation, x: float, y: float) -> float:
        """The table."""
        right = _WIDTH - _MARGIN
        self.text(right - 62, y, "this row", 7, _SOFT, "right")
        self.text(right, y, f"mean of {explanation.sample.rows}", 7, _SOFT, "right")
        for one in measures(row.counts, row.sample):
            self.axes.add_artist(Line2D([x, right], [y + 5, y + 5], color=_LINE, lw=0.5))
            y += 17
            self.text(x, y, one.name, 8.5)
            self.text(right - 62, y, one.row, 8.5, align="right")
            self.text(right, y, one.mean, 8.5, align="right")
            if one.rate:
                y += 9.5
                self.text(x, y, one.rate, 6.5, _SOFT)
        return y + 6


def _shown(row: ExplainedRow) -> list[Position]:
    return [*row.used, *row.positions[len(row.used) :][:_SHOWN_PADDING]]


def _short(text: str, columns: int = _CELL_TEXT) -> str:
    return text if cell_len(text) <= columns else set_cell_size(text, columns - 1) + "…"
