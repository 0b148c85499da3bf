"""The typed shape of every configuration. The YAML files under ``conf/`` explain the fields to a user.

A node with ``_target_`` names a class; its other keys are that class's arguments, and `ntp.config.validation`
checks them against its signature, so that a new objective or corpus needs no entry here.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ntp.config.types import Count, PositiveFloat, PositiveInt, Probability, Seed

Precision = Literal["32-true", "bf16-mixed", "bf16-true"]


def _names_a_class(node: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(node.get("_target_"), str):
        raise ValueError("needs a _target_, the full name of the class to build")
    return node


Target = Annotated[dict[str, Any], AfterValidator(_names_a_class)]


class Section(BaseModel):
    """A part of the configuration; refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid")


class DataConfig(Section):
    """Which text, cut how. See ``conf/data/rows/default.yaml``."""

    corpus: Target
    tokenizer: Target
    sequence_length: PositiveInt
    batch_size: PositiveInt
    micro_batch_size: PositiveInt | None
    workers: Count
    documents: Literal["concatenate", "isolate"]
    validation: Literal["auto", "hash", "tail"]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    repeat_first_batch: bool
    cache_dir: str


class TrainerConfig(Section):
    """Where and how it runs. See ``conf/trainer/cpu.yaml``."""

    accelerator: Literal["cpu", "gpu", "auto"]
    devices: PositiveInt | Literal["auto"]
    num_nodes: PositiveInt
    strategy: str | Target
    precision: Precision
    matmul_precision: Literal["highest", "high", "medium"]
    compile: bool
    gradient_clip_norm: PositiveFloat | None
    deterministic: bool
    log_every_steps: PositiveInt
    progress_bar: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    peak_teraflops: PositiveFloat | None
    # Younger than the first version: a run that is stored without them is still read.
    time_limit_minutes: PositiveFloat | None = None
    collective_timeout_minutes: PositiveFloat = 10.0
    auto_micro_batch: bool = False


BUDGET_UNITS = ("steps", "rows", "tokens", "targets", "bytes", "flops", "minutes")


class BudgetConfig(Section):
    """How long to train, in one unit. See ``conf/budget/default.yaml``."""

    steps: PositiveInt | None
    tokens: PositiveInt | None
    bytes: PositiveInt | None
    flops: PositiveFloat | None
    minutes: PositiveFloat | None
    otherwise_steps: PositiveInt
    # Younger than the first version: a run that is stored without them is still read.
    rows: PositiveInt | None = None
    targets: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> "BudgetConfig":
        given = [unit for unit in BUDGET_UNITS if getattr(self, unit) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given; keep one and set the other to null")
        return self


EXAM_DRAWS = 8
"""Estimates of an answer that is drawn, where a command is not told how many."""


class ExamsConfig(Section):
    """Which exams are taken. See ``conf/evaluation/exams``."""

    exams: dict[str, Target] = {}


class EvaluationConfig(ExamsConfig):
    """When and on what a run validates itself. See ``conf/evaluation/default.yaml``."""

    every_steps: PositiveInt | None
    rows: PositiveInt | None
    final_rows: PositiveInt | None
    sample_tokens: Count
    exams_every_steps: PositiveInt | None = None
    exams_draws: PositiveInt = EXAM_DRAWS


class TrialConfig(Section):
    """One trial of a search, as the job that computes it knows it."""

    study: str
    storage: str
    number: Count


class SweepConfig(Section):
    """How the jobs of a sweep are run. See ``conf/sweep/default.yaml``."""

    name: str | None = None
    jobs: PositiveInt = 1
    threads: PositiveInt | None = None
    gpus: Count | None = None
    time_limit_minutes: PositiveFloat | None = None
    grace_seconds: PositiveFloat = 60.0
    retry: bool = True
    metric: str = "val/loss"
    dry_run: bool = False
    trial: TrialConfig | None = None


class CommonConfig(Section):
    """What every command shares."""

    allow_targets: list[str]
    print_config: bool


class TrainConfig(CommonConfig):
    """``conf/train.yaml`` and ``conf/check.yaml``."""

    seed: Seed
    output_root: str = "outputs"
    run_dir: str
    resume: str | None = None
    tags: list[str]
    check: bool = False
    model: Target
    data: DataConfig
    objective: Target
    trainer: TrainerConfig
    optimizer: Target
    schedule: Target
    budget: BudgetConfig
    evaluation: EvaluationConfig
    logger: dict[str, Target]
    callbacks: dict[str, Target]
    sweep: SweepConfig = SweepConfig()


class CertifyConfig(TrainConfig):
    """``conf/certify.yaml``."""

    full: bool
    ignore: list[str]


class EvaluateConfig(CommonConfig):
    """``conf/evaluate.yaml``."""

    run: str
    checkpoint: Literal["best", "last"]
    data: DataConfig | None = None
    split: Literal["validation", "train", "all"] | None
    rows: PositiveInt | None
    batch_size: PositiveInt | None
    draws: PositiveInt | None
    seed: Seed | None
    accelerator: Literal["cpu", "gpu", "auto"]
    precision: Precision
    evaluation: ExamsConfig = ExamsConfig()


class GenerateConfig(CommonConfig):
    """``conf/generate.yaml``."""

    run: str
    checkpoint: Literal["best", "last"]
    prompt: str | None
    prefix: str | None
    suffix: str | None
    form: str | None
    samples: PositiveInt
    tokens: PositiveInt
    method: Literal["ancestral", "confidence"] | None
    steps: PositiveInt | None
    block: PositiveInt | None
    speculate: bool
    greedy: bool
    temperature: PositiveFloat
    top_k: PositiveInt | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    min_p: Probability | None
    repetition_penalty: PositiveFloat
    stop_at_end: bool
    stream: bool | None
    seed: Seed
    accelerator: Literal["cpu", "gpu", "auto"]


class ExplainConfig(CommonConfig):
    """``conf/explain.yaml``."""

    seed: Seed
    model: Target
    data: DataConfig
    objective: Target
    row: Count
    length: PositiveInt
    text: str | None
    split: Literal["train", "validation"]
    progress: Annotated[float, Field(ge=0, lt=1)]
    sampled_rows: PositiveInt
    output: str | None
    width: Annotated[int, Field(ge=40)] | None


class BaselineConfig(CommonConfig):
    """``conf/baseline.yaml``."""

    data: DataConfig
    evaluation: ExamsConfig = ExamsConfig()
    baseline: dict[str, Target] = {}
    output: str | None


class SyncConfig(CommonConfig):
    """``conf/sync.yaml``."""

    run: str
    mode: Literal["online", "offline"] | None
    project: str | None
    entity: str | None
    group: str | None
    force: bool
    init_timeout: PositiveFloat
    finish_timeout: PositiveFloat


class DashboardConfig(CommonConfig):
    """``conf/dashboard.yaml``."""

    runs: list[str]
    entity: str | None
    project: str | None
    output: str
    publish: bool
    report: str | None


class CompareConfig(CommonConfig):
    """``conf/compare.yaml``."""

    runs: list[str] | str
    output: str | None
    exams: list[str] | None
    evaluate: bool
    match: Literal["steps", "rows", "tokens", "targets", "bytes", "flops", "seconds"] | None
    reference: str | None
    baselines: bool
    baseline: dict[str, Target] = {}
    force: bool
    unfinished: bool
    figures: bool
    checkpoint: Literal["best", "last"]
    draws: PositiveInt | None
    batch_size: PositiveInt | None
    accelerator: Literal["cpu", "gpu", "auto"]


class PlanConfig(CommonConfig):
    """``conf/plan.yaml``."""

    runs: list[str] | str
    seeds: PositiveInt
    exam: str
    measure: str | None
    documents: PositiveInt | None
    level: Annotated[float, Field(gt=0, lt=1)]
    power: Annotated[float, Field(gt=0, lt=1)]
    unfinished: bool
