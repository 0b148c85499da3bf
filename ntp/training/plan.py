"""What a run is about to do, in a few lines."""

from ntp.data.rows import micro_batch_size
from ntp.models.flops import parameter_count
from ntp.tracking.describe import duration, short
from ntp.training.setup import Setup


def plan(setup: Setup, objective_name: str) -> list[tuple[str, str]]:
    """Names and values: model, data, objective, steps.

    Args:
        setup: the parts of the run.
        objective_name: as the user chose it.
    """
    config, prepared, budget = setup.config, setup.prepared, setup.budget
    train, data = prepared.train, config.data
    parameters = parameter_count(setup.model) + parameter_count(setup.objective)
    rows = micro_batch_size(data, setup.world_size)
    accumulated = data.batch_size // (rows * setup.world_size)
    targets = setup.sample_batch.target_count / (setup.sample_batch.rows * data.sequence_length)
    lines = [
        ("model", f"{type(setup.model).__name__}, {short(parameters)} parameters ({parameters:,})"),
        (
            "data",
            f"{short(train.total_bytes, 'B')} of text, {short(len(train))} tokens "
            f"of {train.bytes_per_token:.2f} bytes; {short(prepared.validation.total_bytes, 'B')} held out; "
            f"vocabulary {prepared.tokenizer.vocabulary_size:,}",
        ),
        ("objective", f"{objective_name}{_details(setup)}, {targets:.0%} of the positions have a target"),
        (
            "step",
            f"{data.batch_size} rows of {data.sequence_length} = {setup.cost.tokens:,} tokens"
            + (f", {accumulated} micro-batches of {rows}" if accumulated > 1 else "")
            + (f", on {setup.world_size} devices" if setup.world_size > 1 else ""),
        ),
    ]
    if budget.steps is None:
        lines.append(("budget", f"{duration(budget.seconds or 0)} of training"))
    else:
        epochs = budget.steps * data.batch_size / setup.rows
        lines.append(
            (
                "budget",
                f"{budget.steps:,} steps, {short(budget.steps * setup.cost.tokens)} tokens, "
                f"{epochs:.2g} times the text, {short(budget.steps * setup.cost.flops, 'FLOPs')}",
            )
        )
    return lines + [("note", note) for note in prepared.notes]


def _details(setup: Setup) -> str:
    """What the objective has decided for itself, if it says so."""
    said = setup.objective.extra_repr()
    return f" ({said})" if said else ""
