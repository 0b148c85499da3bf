"""An example has the form that the data module and the model rely on."""

import numpy as np

from ntp.data.example import IGNORE, Attention, Draw, Example
from ntp.data.special_tokens import PADDING
from ntp.data.windows import Documents
from ntp.testing.bench import BATCH, REGIMES, Bench, Sample
from ntp.testing.errors import Broken, NotApplicable
from ntp.testing.registry import check

_INTEGERS = ("tokens", "targets", "order", "segments", "positions", "target_bytes")


@check(quick=True)
def arrays_fit(bench: Bench) -> None:
    """Arrays of an example have one length, the right types, and values in their range."""
    objective = bench.subject.objective
    for sample in bench.mixed_samples(18 if bench.quick else 48):
        check_arrays(bench, objective.corrupt(sample.row, sample.draw), str(sample))


def check_arrays(bench: Bench, example: Example, place: str) -> None:
    """Check the arrays of one example.

    Raises:
        Broken: says which, and where.
    """
    length, size = len(example.tokens), bench.tokenizer.vocabulary_size
    if length > bench.sequence_length:
        problem = f"{place}: the example has {length} positions; there is room for {bench.sequence_length}"
        raise Broken(problem, "raw_length: the tokens that it asks for must fit with all that corrupt adds to them")
    for name in (*_INTEGERS, "weights", "private"):
        array = getattr(example, name)
        if array is None:
            continue
        kinds = "iu" if name in _INTEGERS else "f" if name == "weights" else "b"
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise Broken(f"{place}: {name} is of type {kind}", f"{name}, an array of {_NAMED[kinds]}")
        if array.shape != (length,):
            raise Broken(f"{place}: {name} has shape {array.shape}, tokens have ({length},)", name)

    def all_must(name: str, right: np.ndarray, what: str, hint: str) -> None:
        if not right.all():
            position = int(np.flatnonzero(~right)[0])
            value = getattr(example, name)[position]
            raise Broken(f"{place}, position {position}: {name} is {value}, {what}", hint)

    tokens, targets = example.tokens, example.targets
    all_must("tokens", (tokens >= 0) & (tokens < size), f"no id below {size}", "ids that bind forgot to look up")
    known = (targets == IGNORE) | ((targets >= 0) & (targets < size))
    all_must("targets", known, f"neither {IGNORE} nor an id below {size}", "targets where there is nothing to predict")
    if example.weights is not None:
        good = np.isfinite(example.weights) & (example.weights >= 0)
        all_must("weights", good, "not a finite number of at least 0", "a division by a rate that may be 0")
    if example.segments is not None:
        all_must("segments", example.segments >= 0, "below 0, which means padding", "padding of its own")
    if example.positions is not None:
        good = (example.positions >= 0) & (example.positions < bench.sequence_length)
        all_must("positions", good, f"outside of 0 to {bench.sequence_length - 1}", "positions")
    for name in ("count", "read_bytes"):
        value = getattr(example, name)
        if value is not None and (not isinstance(value, int | np.integer) or value < 0):
            raise Broken(f"{place}: {name} is {value!r}", f"{name}, a whole number of at least 0")
    for name, array in (example.extra or {}).items():
        if not isinstance(array, np.ndarray) or array.shape[:1] != (length,):
            raise Broken(f"{place}: extra '{name}' has not one entry for each of {length} positions", f"extra '{name}'")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Broken(f"{place}: extra '{name}' is not finite", f"extra '{name}'")


_NAMED = {"iu": "integers", "f": "floating-point numbers", "b": "truth values"}


@check(quick=True)
def attention_is_as_declared(bench: Bench) -> None:
    """Order and private of every example have the form that the declared attention stands for."""
    objective = bench.subject.objective
    for sample in bench.mixed_samples(18 if bench.quick else 48):
        check_attention(objective.corrupt(sample.row, sample.draw), objective.attention, str(sample))


def check_attention(example: Example, attention: Attention, place: str) -> None:
    """Check the order of one example.

    Raises:
        Broken: says where it is not what the attention stands for.
    """
    order, private = example.order, example.private
    if private is not None and attention != "ordered":
        problem = f"{place}: attention is '{attention}', and the example has private positions"
        raise Broken(problem, "attention: only 'ordered' obeys private")
    if order is None:
        if attention in ("prefix", "ordered") and len(example):
            raise Broken(f"{place}: attention is '{attention}', and the example has no order", "Example.order")
        return
    form = _wrong_form(example, order, attention)
    if form is not None:
        position, what = form
        problem = f"{place}, position {position}: order is {order[position]}; '{attention}' means {what}"
        raise Broken(problem, "attention, or the order of the example; the model obeys the former")


def _wrong_form(example: Example, order: np.ndarray, attention: str) -> tuple[int, str] | None:
    """The first position whose order the attention does not stand for, and what it stands for."""
    for segment in _stretches(example):
        own = order[segment]
        if attention == "causal":
            wrong = np.diff(own, prepend=own[0] - 1) != 1
            what = "that it rises by one with the index"
        elif attention == "full":
            wrong, what = own != own[0], "that it is equal everywhere"
        elif attention == "prefix":
            wrong = own != np.maximum(np.arange(len(own)) - np.count_nonzero(own == 0) + 1, 0)
            what = "0 on a prefix of each document, and then 1, 2, 3 ..."
        else:
            return None
        if wrong.any():
            return int(segment[np.flatnonzero(wrong)[0]]), what
    return None


def _stretches(example: Example) -> list[np.ndarray]:
    """Indices of the positions of each document."""
    if not len(example):
        return []
    if example.segments is None:
        return [np.arange(len(example))]
    return [np.flatnonzero(example.segments == one) for one in np.unique(example.segments)]


@check()
def attention_is_the_cheapest(bench: Bench) -> None:
    """No cheaper kind of attention than the declared one would do."""
    objective = bench.subject.objective
    if objective.attention in ("causal", "full") or len(objective.attentions) > 1:
        raise NotApplicable(f"'{objective.attention}' is the cheapest of its kind, or serves several objectives")
    examples = [objective.corrupt(one.row, one.draw) for one in bench.mixed_samples(60) if len(one.row) > 8]
    examples = [one for one in examples if one.order is not None and (one.targets != IGNORE).any()]
    cheaper = ("full", "causal") if objective.attention == "prefix" else ("full", "causal", "prefix")
    for kind in cheaper:
        alike = [one.private is None and _wrong_form(one, _ranks(one, kind), kind) is None for one in examples]
        if examples and all(alike):
            problem = f"attention is '{objective.attention}', and all of {len(examples)} rows have the form of '{kind}'"
            hint = f"attention = '{kind}'; or, if more was meant, the order: a prefix of one token is no prefix"
            raise Broken(problem, hint)


def _ranks(example: Example, kind: str) -> np.ndarray:
    """The order, where only its comparison counts: a prefix of one token is as good as causal."""
    assert example.order is not None
    if kind != "causal":
        return example.order
    order = example.order.copy()
    for segment in _stretches(example):
        order[segment] -= order[segment[0]]
    return order


@check(quick=True)
def padding_is_left_to_the_data_module(bench: Bench) -> None:
    """A short row gives a short example: the data module pads, and marks what it pads."""
    objective, tokenizer = bench.subject.objective, bench.tokenizer
    padding = tokenizer.token_to_id(PADDING)
    hint = "padding in corrupt: return as many positions as there is something to read at"
    for documents in REGIMES:
        for sample in [one.part(0, size) for one in bench.full_samples(documents, 3) for size in (1, 2, 5)]:
            example = objective.corrupt(sample.row, sample.draw)
            for name in ("tokens", "targets") if padding is not None else ():
                found = np.flatnonzero(getattr(example, name) == padding)
                if len(found):
                    problem = f"{sample}, cut to {len(sample.row)} tokens, position {found[0]}: the padding token"
                    raise Broken(f"{problem} is among the {name}", hint)
            if len(example) > max(16, bench.sequence_length // 2):
                problem = f"{sample}, cut to {len(sample.row)} tokens: the example has {len(example)} positions"
                raise Broken(problem, hint)


@check(quick=True)
def tiny_rows_are_rows(bench: Bench) -> None:
    """Rows of one token, rows without any text and tiny documents give good examples and finite losses."""
    subject = bench.subject
    for documents in REGIMES:
        for sample in tiny_samples(bench, documents):
            place = f"a row of {len(sample.row)} tokens {sample.row.tokens.tolist()} (documents {documents}d)"
            try:
                example = subject.objective.corrupt(sample.row, sample.draw)
            except Exception as error:
                hint = "rows shorter than usual, without a candidate, or with documents of one token"
                raise Broken(f"{place}: corrupt raises {type(error).__name__}: {error}", hint) from error
            check_arrays(bench, example, place)
            terms = subject.loss(bench.batch(subject, [sample]))
            if not bool(terms.sum.isfinite()):
                problem = f"{place}: the loss is {float(terms.sum.detach())}"
                raise Broken(problem, "a mean over no targets, or a division by a number of tokens that may be 0")


def tiny_samples(bench: Bench, documents: Documents) -> list[Sample]:
    """Short rows with their draws: parts of a text of tiny documents, and one of end-of-text tokens alone."""
    end = bench.tokenizer.end_of_text
    text = bench.store.tokens[: bench.store.offsets[-1]].astype(np.int64)
    one, two, three = text[bench.tokenizer.token_bytes[text] > 0][:3].tolist()
    samples = []
    for store in (
        bench.store_of([[one, end], [end], [two, end], [one, two, three, end], [end], [three, end], [two, end]]),
        bench.store_of([[end]] * 8),
    ):
        windows = bench.windows(documents, store)
        whole = windows.row(0)
        for number, (begin, end_) in enumerate([(0, len(whole)), (0, 1), (2, 3), (2, 4), (1, 4), (6, 10)]):
            row, stratum = whole.part(begin, min(end_, len(whole))), (number % BATCH, BATCH)
            if not len(row):
                continue
            samples.append(Sample(windows, 0, row, Draw(0, 0, number, stratum, progress=0.5)))
            if not bench.quick:
                samples.append(Sample(windows, 0, row, Draw(0, 0, number, stratum, evaluation=True)))
    return samples
