"""An explanation in the terminal: legible on dark and light, without colours, and in 80 columns."""

import codecs
import io
from collections.abc import Iterator, Sequence

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ntp.explain.explanation import Document, ExplainedRow, Explanation, Position
from ntp.explain.measures import measures
from ntp.explain.pieces import Kind, Piece

# Colours of text have a contrast of about 4 to black and to white; badges bring their own ground.
_BADGES: dict[Kind, str] = {
    "mask": "bold #ffffff on #7a45c2",
    "sentinel": "bold #1b1300 on #e6a23c",
    "marker": "bold #ffffff on #0f7f87",
    "end": "bold #ffffff on #66738c",
    "padding": "dim",
}
_TARGET = "bold #238f57"
_TRAINED, _UNTRAINED = "#3b78d8", "#8d97a6"
_QUIET = "dim"

_SUBSTITUTES = str.maketrans("·↵→⟨⟩–┃│─…█▀▄�×", ".$>()-||-~#'.?x")
"""For terminals that cannot show these."""

_CELL = 14
"""Columns that a token takes at most."""
_LINES = 24
"""Lines of a row's text that are shown."""
_SHOWN_PADDING = 2
_SMALL = 36
"""Columns of the picture of one component of a mixture."""


def show(explanation: Explanation, console: Console) -> None:
    """Print an explanation.

    Args:
        explanation: of any objective.
        console: to print to; its width is used.
    """
    if isinstance(console.file, io.TextIOWrapper):
        console.file.reconfigure(errors=_PLAINLY)
    console.print(Text.assemble((explanation.name, "bold"), ("  " + explanation.class_name, _QUIET)), soft_wrap=True)
    if explanation.sentence:
        console.print(explanation.sentence, markup=False)
    console.print()
    console.print(_facts(explanation))
    documents: Sequence[Document] = ()
    for row in explanation.rows:
        if row.component is None:
            _head(row.title, console)
        else:
            _head(row.component.name, console)
            about = Text.assemble(row.component.sentence, (f"\n{row.component.options}", _QUIET))
            console.print(about.append(f"\n{row.title}", _QUIET))
        if row.documents != documents:
            console.print(_text(row))
        documents = row.documents
        if row.component is None:
            _head("what it reads and predicts", console)
        for line in _strip(row, console.width):
            console.print(line, no_wrap=True, crop=False, overflow="ignore")
        console.print(_legend(row))
        for array in row.arrays:
            shape = f"  {array.dtype} [{', '.join(map(str, array.shape))}]"
            console.print(Text.assemble((array.name, "bold"), shape, (f"  {array.values}", _QUIET)))
        _picture_and_numbers(row, explanation, console)
    if explanation.mixed:
        _head("components", console)
        console.print(_components(explanation))


_PLAINLY = "ntp.explain.plainly"


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What a terminal without Unicode shows instead of a character that it cannot."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_SUBSTITUTES)
    return "".join(one if one.isascii() else "?" for one in text), error.end


codecs.register_error(_PLAINLY, _plainly)


def _picture_and_numbers(row: ExplainedRow, explanation: Explanation, console: Console) -> None:
    """Beside each other where there is room; small ones for the components of a mixture."""
    numbers = _numbers(row, explanation)
    if explanation.mixed:
        console.print()
        console.print(_beside(_picture(row, console, _SMALL), numbers))
        return
    both = _beside(_picture(row, console, console.width), numbers)
    # Measured as if there were any room: a table that does not fit says that it takes just what there is.
    if console.measure(both, options=console.options.update_width(1000)).maximum <= console.width:
        _head("who sees whom", console)
        console.print(both)
        return
    _head("who sees whom", console)
    console.print(_picture(row, console, console.width))
    _head("in numbers", console)
    console.print(numbers)


def _beside(left: RenderableType, right: RenderableType) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_row(left, right)
    return table


def _head(title: str, console: Console) -> None:
    console.print()
    console.print(Rule(Text(title, "bold"), align="left", style=_QUIET))


def _facts(explanation: Explanation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for fact in explanation.facts:
        meaning = f": {fact.meaning}" if fact.value and fact.meaning else fact.meaning
        table.add_row(fact.name, Text.assemble(fact.value, (meaning, _QUIET)))
    return table


def _text(row: ExplainedRow) -> RenderableType:
    """The raw text, a bar beside each document."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    left = _LINES
    for number, document in enumerate(row.documents, start=1):
        lines = document.text.expandtabs(4).split("\n")
        shown = lines[: max(left, 1)]
        left -= len(shown)
        text = Text("\n".join("".join(one if one.isprintable() else "�" for one in line) for line in shown))
        if len(shown) < len(lines):
            text.append(f"\n… {len(lines) - len(shown)} more lines", style=_QUIET)
        elif document.ends:
            text.append(" " if lines[-1] else "").append_text(_badge(Piece("end", "end", "")))
        bar = Text("\n".join([str(number), *["│"] * text.plain.count("\n")]), style=_QUIET)
        table.add_row(bar if len(row.documents) > 1 else Text(""), text)
        if left <= 0:
            if number < len(row.documents):
                table.add_row("", Text(f"… {len(row.documents) - number} more documents", _QUIET))
            break
    return table


def _badge(piece: Piece) -> Text:
    # As a span: the ground of a badge must not spread to what fills its cell.
    return Text.assemble((piece.plain, _BADGES.get(piece.kind, "")))


# The strip: under every position what it must predict.


def _strip(row: ExplainedRow, width: int) -> Iterator[Text]:
    """Lines of cells, several to a position, as many positions as fit beside each other."""
    positions = [*row.used, *row.positions[len(row.used) :][:_SHOWN_PADDING]]
    hidden = len(row.positions) - len(positions)
    further = list(row.positions[0].further_tokens)
    names = ["", "reads", "predicts", *further]
    if row.weighted:
        names.append("weight")
    if row.ranked:
        names.append("rank")
    if row.placed:
        names.append("place")
    margin = max(map(len, names)) + 2
    cells = [_cells(one, row) for one in positions]
    if hidden:
        cells.append([Text(f"+{hidden}", _QUIET), Text("padding", _QUIET), *[Text("")] * (len(names) - 2)])
    widths = [max(one.cell_len for one in cell) for cell in cells]
    begins = [0 < index < len(positions) and _new_document(positions, index) for index in range(len(cells))]
    start = 0
    while start < len(cells):
        behind, taken = start, margin
        while behind < len(cells) and (behind == start or taken + _step(widths, begins, behind) <= width):
            taken += _step(widths, begins, behind)
            behind += 1
        if start:
            yield Text("")
        for line, name in enumerate(names):
            text = Text.assemble((name.ljust(margin), _QUIET))
            for index in range(start, behind):
                if begins[index] and index > start:
                    text.append("┃ ", style=_QUIET)
                cell = cells[index][line].copy()
                cell.pad_right(widths[index] - cell.cell_len)
                text.append_text(cell).append(" ")
            text.rstrip()
            yield text
        start = behind


def _step(widths: Sequence[int], begins: Sequence[bool], index: int) -> int:
    return widths[index] + 1 + 2 * begins[index]


def _new_document(positions: Sequence[Position], index: int) -> bool:
    return positions[index].segment != positions[index - 1].segment and not positions[index].is_padding


def _cells(position: Position, row: ExplainedRow) -> list[Text]:
    reads = _shortened(_badge(position.reads))
    if position.private:
        reads.stylize("italic")
    cells = [Text(str(position.index), _QUIET), reads]
    cells += [_target(one) for one in (position.predicts, *position.further_tokens.values())]
    if row.weighted:
        cells.append(Text(f"{position.weight:.3g}") if position.predicts else Text(""))
    if row.ranked:
        rank = f"({position.order})" if position.private else str(position.order)
        cells.append(Text("" if position.is_padding else rank))
    if row.placed:
        cells.append(Text("" if position.is_padding else str(position.place), _QUIET))
    return cells


def _target(piece: Piece | None) -> Text:
    if piece is None:
        return Text("–", _QUIET)
    return _shortened(_badge(piece) if piece.is_special else Text(piece.text, _TARGET))


def _shortened(text: Text) -> Text:
    if text.cell_len > _CELL:
        text.truncate(_CELL, overflow="ellipsis")
    return text


def _legend(row: ExplainedRow) -> Text:
    shown = {one.reads.plain for one in row.positions} | {one.predicts.plain for one in row.positions if one.predicts}
    text = "".join(shown)
    parts = [f"{sign} {name}" for sign, name in (("·", "space"), ("↵", "line break"), ("→", "tab")) if sign in text]
    if any(one.predicts is None for one in row.used):
        parts.append("– nothing to predict")
    if any(one.private for one in row.positions):
        parts.append("(rank) private, seen only by its own rank")
    if row.placed:
        parts.append("place: as the positional encoding sees it")
    if len({one.segment for one in row.used}) > 1:
        parts.append("┃ another document")
    return Text("   ".join(parts), style=_QUIET)


# The picture: a sign holds two rows of the matrix, one above the other.

_SIGNS = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}


def _picture(row: ExplainedRow, console: Console, width: int) -> RenderableType:
    used = len(row.used)
    shown = used + min(len(row.positions) - used, _SHOWN_PADDING)
    labels = [f"{one.index} {one.reads.plain}" for one in row.positions[:shown]]
    margin = min(max(map(cell_len, labels)), 12) + 3
    factor = -(-shown // max(width - margin, 8))
    plain = console.no_color or console.color_system is None
    sees = _pooled(row.sees[:shown, :shown], factor)
    trained = _any_of([one.predicts is not None for one in row.positions[:shown]], factor)

    lines = [Text(" " * margin + _ticks(len(sees), factor), style=_QUIET)]
    for top in range(0, len(sees), 2):
        label = Text(labels[top * factor], style=_QUIET)
        label.truncate(margin - 3, overflow="ellipsis")
        label.pad_left(margin - 3 - label.cell_len)
        below = top + 1 if top + 1 < len(sees) else None
        line = Text.assemble(label, " ")
        line.append(_sign(trained[top], below is not None and trained[below]), style=_TARGET).append(" ")
        colours = [_TRAINED if one is not None and trained[one] else _UNTRAINED for one in (top, below)]
        for column in range(len(sees)):
            pair = (bool(sees[top, column]), below is not None and bool(sees[below, column]))
            if all(pair) and colours[0] != colours[1] and not plain:
                line.append("▀", style=f"{colours[0]} on {colours[1]}")
            else:
                line.append(_sign(*pair), style=colours[0] if pair[0] else colours[1])
        lines.append(line)
    return Group(*lines, *_key(row, factor, plain))


def _sign(top: bool, bottom: bool) -> str:
    return _SIGNS[bool(top), bool(bottom)]


def _key(row: ExplainedRow, factor: int, plain: bool) -> Iterator[Text]:
    if plain:
        yield Text("█ sees   first column: has a target", _QUIET)
    else:
        text = Text()
        for colour, meaning in ((_TARGET, "target"), (_TRAINED, "sees, with a target"), (_UNTRAINED, "without")):
            text.append("█", colour).append(f" {meaning}   ", _QUIET)
        yield text
    if factor > 1:
        yield Text(f"a sign is {factor} positions wide, {2 * factor} high", _QUIET)
    mean = np.mean([one.sees for one in row.used]) if row.used else 0
    yield Text(f"a position sees {mean:.1f} on average", _QUIET)


def _pooled(matrix: np.ndarray, factor: int) -> np.ndarray:
    """The matrix, made smaller: of each square of so many entries whether at least half are true."""
    if factor == 1:
        return matrix
    size = -(-len(matrix) // factor) * factor
    padded = np.full((size, size), np.nan)
    padded[: len(matrix), : len(matrix)] = matrix
    return np.nanmean(padded.reshape(size // factor, factor, size // factor, factor), axis=(1, 3)) >= 0.5


def _any_of(flags: Sequence[bool], factor: int) -> list[bool]:
    return [any(flags[start : start + factor]) for start in range(0, len(flags), factor)]


def _ticks(count: int, factor: int) -> str:
    line = ""
    for column in range(0, count, 8):
        line = line.ljust(column) + str(column * factor)
    return line


# Numbers.


def _numbers(row: ExplainedRow, explanation: Explanation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style=_QUIET, no_wrap=True)
    of = "" if explanation.mixed else f" {explanation.sample_of}"
    over = f"mean of {row.sample.rows}{of}" if row.sample.rows else ""
    table.add_row("", Text("this row", _QUIET), Text(over, _QUIET))
    for one in measures(row.counts, row.sample):
        table.add_row(one.name, one.row, one.mean, "" if explanation.mixed else one.rate)
    return table


def _components(explanation: Explanation) -> Table:
    """A line for each component, and one for all."""
    table = Table.grid(padding=(0, 3))
    table.add_column(style="bold", no_wrap=True)
    for _ in range(4):
        table.add_column(justify="right", no_wrap=True)
    heads = (explanation.sample_of, "share", "targets a row", "a position")
    table.add_row("", *(Text(one, _QUIET) for one in heads))
    every = explanation.sample
    named = [(row.component.name, row.sample) for row in explanation.rows if row.component]
    for name, counts in [*named, ("all", every)]:
        targets = f"{counts.targets / counts.rows:.1f}" if counts.rows else ""
        rate = f"{counts.targets / counts.positions:.1%}" if counts.positions else ""
        table.add_row(name, str(counts.rows), f"{counts.rows / every.rows:.0%}", targets, rate)
    return table
