"""W&B's own files of offline runs, read back."""

import json
import struct
import time
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _WHOLE, _LAST = 32768, 7, 1, 4


def offline_files(run_dir: Path) -> list[Path]:
    """The files of a run directory, oldest first."""
    return sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def read_wandb(path: Path) -> list[Any]:
    """All records of an offline W&B run file, once the exit record is written: W&B's own process writes it."""
    deadline = time.monotonic() + 30
    while True:
        records = _parse(path.read_bytes())
        if time.monotonic() > deadline or "exit" in [record.WhichOneof("record_type") for record in records]:
            return records
        time.sleep(0.1)


def as_mirrored(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What W&B gets of lines of ``metrics.jsonl``."""
    return [{"trainer/global_step" if name == "step" else name: one for name, one in line.items()} for line in lines]


def of_type(records: list[Any], kind: str) -> list[Any]:
    """The records of one type."""
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def history(records: list[Any]) -> list[dict[str, Any]]:
    """The lines that were logged, without W&B's own times."""
    lines = [{_key(item): json.loads(item.value_json) for item in one.item} for one in of_type(records, "history")]
    return [{name: value for name, value in line.items() if not name.startswith("_")} for line in lines]


def steps(records: list[Any]) -> list[int]:
    """W&B's own numbers of the lines."""
    return [one.step.num for one in of_type(records, "history")]


def summary(records: list[Any]) -> dict[str, Any]:
    """What was put beside the curves."""
    return {_key(item): json.loads(item.value_json) for one in of_type(records, "summary") for item in one.update}


def definitions(records: list[Any]) -> dict[str, tuple[str, bool]]:
    """By the name of each metric that is defined: what it is drawn over, and whether its best value is kept."""
    return {
        one.glob_name or one.name: (one.step_metric, one.summary.min and one.summary.last)
        for one in of_type(records, "metric")
    }


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _parse(data: bytes) -> list[Any]:
    """The protobuf records of W&B's run log: pieces of at most a block, each behind checksum, length and kind."""
    from wandb.proto import wandb_internal_pb2 as protocol

    position, records, partial = _HEADER, [], b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        partial += data[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if kind in (_WHOLE, _LAST):
            record = protocol.Record()
            record.ParseFromString(partial)
            records.append(record)
            partial = b""
    return records
