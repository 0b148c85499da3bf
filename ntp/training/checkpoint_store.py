"""The checkpoints of a run on disk: each file written whole or not at all, with its checksum, and free of code."""

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ntp.training.checkpoint_format import STATE, upgrade

LAST, BEST, INDEX = "last.ckpt", "best.ckpt", "index.json"
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One checkpoint that is on disk whole.

    Attributes:
        file: name in the directory.
        step: optimizer steps that it has seen.
        loss: on the fixed validation rows; None where it was not measured at this step.
        bytes: size of the file.
        sha256: of its content.
    """

    file: str
    step: int
    loss: float | None
    bytes: int
    sha256: str


class CheckpointStore:
    """A directory of checkpoints, one file a step, listed in ``index.json``.

    ``last.ckpt`` and ``best.ckpt`` are second names of the newest one and of the one with the lowest loss. A file
    counts only once it stands in the index, which is written after it.

    Args:
        directory: where.
        keep_last: how many of the newest are kept; the one before the newest is there in case that one is damaged.
        keep_best: how many are kept by their loss.
    """

    def __init__(self, directory: Path, keep_last: int = 2, keep_best: int = 1) -> None:
        self.directory, self.keep_last, self.keep_best = directory, keep_last, keep_best

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.directory / f"step-{step:08d}.ckpt"

    def entries(self) -> list[Entry]:
        """What is listed, oldest first; without an index that can be read, what is there and can be."""
        listed = self._listed()
        return self._unlisted() if listed is None else listed

    def _listed(self) -> list[Entry] | None:
        try:
            listed = json.loads((self.directory / INDEX).read_text(encoding="utf-8"))
            return sorted((Entry(**one) for one in listed), key=lambda entry: entry.step)
        except (OSError, ValueError, TypeError):
            return None

    def _unlisted(self) -> list[Entry]:
        """Of a run of the first format, which had two files, or of one whose index is lost."""
        found: dict[int, Entry] = {}
        for path in [*self.directory.glob("step-*.ckpt"), self.directory / LAST, self.directory / BEST]:
            try:
                checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                step, loss = checkpoint["global_step"], upgrade(checkpoint)[STATE]["validation_loss"]
                if loss is None and path.name == BEST:
                    loss = checkpoint["callbacks"]["Checkpoint"]["best_loss"]
                digest, size = _sha256(path), path.stat().st_size
            except Exception:  # a damaged file fails in many ways, each with its own exception
                continue
            before = found.get(step)
            if before is None:
                found[step] = Entry(path.name, step, loss, size, digest)
            elif before.loss is None:
                found[step] = replace(before, loss=loss)
        return [found[step] for step in sorted(found)]

    def best(self) -> list[Entry]:
        """Those with a loss, lowest first, as many as are kept."""
        measured = [entry for entry in self.entries() if entry.loss is not None]
        return sorted(measured, key=lambda entry: (entry.loss, entry.step))[: self.keep_best]

    def add(self, entry: Entry) -> None:
        """List a file that has just been written, and delete what need not be kept any more."""
        entries = [one for one in self._listed() or [] if one.step != entry.step]
        self._write_index([*entries, entry])
        self._link_names()
        newest, best = self.entries()[-self.keep_last :], self.best()
        kept = newest + [one for one in best if one not in newest]
        self._write_index(kept)
        self._delete_others(kept)

    def measure(self, step: int, loss: float) -> None:
        """Say the loss of a checkpoint that was validated only after it was written; of others nothing is said."""
        entries = self._listed() or []
        if any(one.step == step for one in entries):
            self._write_index([replace(one, loss=loss) if one.step == step else one for one in entries])
            self._link_names()

    def newest_whole(self) -> tuple[Entry | None, list[str]]:
        """The newest checkpoint whose bytes are those that were written, and what is wrong with newer ones."""
        problems: list[str] = []
        for entry in reversed(self.entries()):
            problem = self._damage(entry)
            if problem is None:
                return entry, problems
            problems.append(f"{entry.file} {problem}")
        return None, problems

    def forget_after(self, step: int) -> None:
        """Drop what a run that goes on from ``step`` will write anew, and what a killed process left half-written."""
        if not self.directory.is_dir():
            return
        kept = [self._named(entry) for entry in self.entries() if entry.step <= step]
        self._write_index(kept)
        self._delete_others(kept)
        self._link_names()

    def _named(self, entry: Entry) -> Entry:
        """With a name of its own for the file, where it was found under one that others will get."""
        path = self.path(entry.step)
        if entry.file in (LAST, BEST) and not path.exists():
            self._link(entry.file, path.name)
        return replace(entry, file=path.name)

    def _damage(self, entry: Entry) -> str | None:
        path = self.directory / entry.file
        try:
            if path.stat().st_size != entry.bytes:
                return f"has {path.stat().st_size} of {entry.bytes} bytes"
            digest = _sha256(path)
        except OSError as error:
            return f"can't be read ({error.strerror})"
        return None if digest == entry.sha256 else "is damaged: its checksum is another"

    def _delete_others(self, kept: list[Entry]) -> None:
        names = {entry.file for entry in kept}
        for path in [*self.directory.glob("step-*.ckpt"), *self.directory.glob(".*.tmp")]:
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _write_index(self, entries: list[Entry]) -> None:
        text = json.dumps([asdict(entry) for entry in sorted(entries, key=lambda one: one.step)], indent=2) + "\n"
        temporary = self.directory / f".{INDEX}.{os.getpid()}.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            _synchronise(file)
        _replace(temporary, self.directory / INDEX)

    def _link_names(self) -> None:
        for alias, chosen in ((LAST, self.entries()[-1:]), (BEST, self.best()[:1])):
            if chosen:
                self._link(chosen[0].file, alias)
            else:
                (self.directory / alias).unlink(missing_ok=True)

    def _link(self, name: str, alias: str) -> None:
        path, temporary = self.directory / alias, self.directory / f".{alias}.{os.getpid()}.tmp"
        if path.exists() and path.samefile(self.directory / name):
            return  # renaming one name of a file to another does nothing, and leaves both
        temporary.unlink(missing_ok=True)
        try:
            os.link(self.directory / name, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.directory / name, temporary)
        _replace(temporary, path)


class CheckpointWriter(TorchCheckpointIO):
    """Lightning's door to checkpoint files.

    Writes to a temporary name, synchronises and renames: a full disk or a kill leaves the previous file whole.

    Args:
        store: lists what is written into its directory; None writes files and nothing else.
    """

    def __init__(self, store: CheckpointStore | None = None) -> None:
        self.store = store

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            OSError: it could not be written; what was at ``path`` is still there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                hashing = _Hashing(file)
                torch.save(checkpoint, hashing)  # type: ignore[arg-type]
                _synchronise(file)
            _replace(temporary, path)
        except RuntimeError as error:  # torch's zip writer turns a failed write into its own error
            if hashing.error is None:
                raise
            raise hashing.error from error
        finally:
            temporary.unlink(missing_ok=True)
        state = checkpoint.get(STATE)
        if self.store is not None and state is not None and path.parent == self.store.directory:
            step, loss = checkpoint["global_step"], state["validation_loss"]
            self.store.add(Entry(path.name, step, loss, hashing.bytes, hashing.digest.hexdigest()))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> Any:
        """Read tensors and plain containers; anything that would run code on loading is refused."""
        return upgrade(torch.load(path, map_location=map_location, weights_only=True))


class _Hashing:
    """A file that is only written to, from its beginning to its end, and the checksum of that."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest, self.bytes = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write and hash."""
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        size = memoryview(data).nbytes
        self.bytes += size
        return size

    def flush(self) -> None:
        """Nothing is held back here."""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _synchronise(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _replace(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # a file system that can't synchronise directories
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
