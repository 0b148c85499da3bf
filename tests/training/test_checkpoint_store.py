"""Checkpoints on disk: whole or not there, found again whatever has happened to them, and no more than are kept."""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from ntp.training.checkpoint_format import VERSION
from ntp.training.checkpoint_store import BEST, INDEX, LAST, CheckpointStore, CheckpointWriter


def state(step: int, loss: float | None = None) -> dict:
    return {
        "global_step": step,
        "state_dict": {"weight": torch.full((64,), float(step))},
        "ntp": {"version": VERSION, "validation_loss": loss},
    }


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def write(store: CheckpointStore, step: int, loss: float | None = None) -> None:
    CheckpointWriter(store).save_checkpoint(state(step, loss), store.path(step))


def steps(store: CheckpointStore) -> list[int]:
    return [entry.step for entry in store.entries()]


def files(store: CheckpointStore) -> set[str]:
    return set(os.listdir(store.directory))


def read(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def test_the_newest_and_the_best_are_kept_under_their_names(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=2, keep_best=2)
    for step, loss in enumerate([3.0, 1.0, 2.0, None, 4.0, 5.0], start=1):
        write(store, step, loss)
    assert steps(store) == [2, 3, 5, 6]
    assert files(store) == {LAST, BEST, INDEX, *(f"step-{step:08d}.ckpt" for step in (2, 3, 5, 6))}
    assert (read(tmp_path / LAST), read(tmp_path / BEST)) == (6, 2)


def test_a_step_that_is_written_again_is_listed_once(store):
    write(store, 1)
    write(store, 1, 0.5)
    assert [(entry.step, entry.loss) for entry in store.entries()] == [(1, 0.5)]
    assert store.newest_whole()[1] == []


def test_a_loss_that_is_known_later_counts(store):
    write(store, 1, 2.0)
    write(store, 2)
    assert read(store.directory / BEST) == 1
    store.measure(2, 1.0)
    assert read(store.directory / BEST) == 2


def test_names_are_copies_where_there_are_no_hard_links(store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    for step, loss in ((1, 1.0), (2, 2.0), (3, 3.0)):
        write(store, step, loss)
    assert (read(store.directory / LAST), read(store.directory / BEST)) == (3, 1)
    assert not [name for name in files(store) if name.endswith(".tmp")]


@pytest.mark.parametrize("size", [0, 1, 100, 1000, -1])
def test_a_truncated_file_is_passed_over(store, size):
    write(store, 1)
    write(store, 2)
    path = store.path(2)
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    entry, problems = store.newest_whole()
    assert entry is not None
    assert entry.step == 1
    assert len(problems) == 1
    assert problems[0].startswith("step-00000002.ckpt has ")


def test_every_flipped_bit_is_noticed(store):
    write(store, 1)
    write(store, 2)
    path = store.path(2)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        entry, problems = store.newest_whole()
        assert entry is not None
        assert entry.step == 1
        assert problems == ["step-00000002.ckpt is damaged: its checksum is another"]


def test_a_file_that_is_gone_is_passed_over(store):
    write(store, 1)
    write(store, 2)
    store.path(2).unlink()
    entry, problems = store.newest_whole()
    assert entry is not None
    assert entry.step == 1
    assert problems == ["step-00000002.ckpt can't be read (No such file or directory)"]


def test_with_nothing_whole_all_that_is_wrong_is_said(store):
    for step in (1, 2):
        write(store, step)
        os.truncate(store.path(step), 10)
    entry, problems = store.newest_whole()
    assert entry is None
    assert [problem.split()[0] for problem in problems] == ["step-00000002.ckpt", "step-00000001.ckpt"]
    assert CheckpointStore(store.directory / "nowhere").newest_whole() == (None, [])


class Killed(BaseException):
    """The process ends here."""


class Deadly:
    """Counts the calls that change something on disk, and kills the process in front of one of them.

    Args:
        fatal: number of that call, counted from 0.
    """

    PLACES = ((torch, "save"), (os, "fsync"), (os, "replace"), (os, "link"))

    def __init__(self, patch: pytest.MonkeyPatch, fatal: int = -1) -> None:
        self.calls, self.fatal = 0, fatal
        for module, name in self.PLACES:
            patch.setattr(module, name, self._counted(getattr(module, name)))
        if fatal >= 0:  # a killed process cleans up nothing
            patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)

    def _counted(self, genuine):
        def call(*arguments, **options):
            self.calls += 1
            if self.calls - 1 == self.fatal:
                raise Killed
            return genuine(*arguments, **options)

        return call


def three_steps(directory: Path, fatal: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Write two checkpoints, and a third while calls are counted; how many there were."""
    store = CheckpointStore(directory)
    write(store, 1, 2.0)
    write(store, 2, 1.0)
    with monkeypatch.context() as patch:
        deadly = Deadly(patch, fatal)
        with contextlib.suppress(Killed):
            write(store, 3, 0.5)
    return deadly.calls


def test_wherever_a_process_is_killed_while_it_writes_there_is_a_whole_state(tmp_path, monkeypatch):
    calls = three_steps(tmp_path / "undisturbed", -1, monkeypatch)
    assert calls > 10
    found = set()
    for fatal in range(calls):
        directory = tmp_path / str(fatal)
        assert three_steps(directory, fatal, monkeypatch) == fatal + 1
        store = CheckpointStore(directory)
        entry, problems = store.newest_whole()
        assert problems == []
        assert entry is not None
        found.add(entry.step)
        assert read(directory / entry.file) == entry.step
        assert read(directory / LAST) in (2, 3)
        assert read(directory / BEST) in (2, 3)
        store.forget_after(entry.step)
        assert not [name for name in files(store) if name.endswith(".tmp")]
        assert read(directory / LAST) == entry.step
        write(store, 4)
        assert steps(store)[-2:] == [entry.step, 4]
    assert found == {2, 3}


def test_going_back_forgets_what_came_after(store):
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0)):
        write(store, step, loss)
    store.forget_after(2)
    assert steps(store) == [2]
    assert read(store.directory / LAST) == read(store.directory / BEST) == 2
    store.forget_after(-1)
    assert files(store) == {INDEX}


@pytest.mark.parametrize("damage", ["missing", "empty", "not JSON", "of another kind"])
def test_without_an_index_the_files_speak_for_themselves(store, damage):
    for step, loss in ((1, 1.0), (2, 2.0), (3, None)):
        write(store, step, loss)
    os.truncate(store.path(3), 100)
    index = store.directory / INDEX
    if damage == "missing":
        index.unlink()
    else:
        index.write_text({"empty": "", "not JSON": "[{", "of another kind": '[{"name": 1}]'}[damage])
    entry, _ = store.newest_whole()
    assert entry is not None
    assert (entry.step, entry.loss) == (2, 2.0)
    store.forget_after(2)
    assert steps(store) == [1, 2]
    assert (read(store.directory / LAST), read(store.directory / BEST)) == (2, 1)


def test_files_of_the_first_format_get_names_of_their_own(store):
    store.directory.mkdir()
    for name, step in ((LAST, 7), (BEST, 4)):
        torch.save(
            {
                "global_step": step,
                "ntp": {"version": 1, "progress": {}, "empty_steps": 0},
                "callbacks": {"Checkpoint": {"best_loss": 1.5}},
            },
            store.directory / name,
        )
    entry, problems = store.newest_whole()
    assert entry is not None
    assert (entry.step, problems) == (7, [])
    store.forget_after(7)
    assert [(one.step, one.loss, one.file) for one in store.entries()] == [
        (4, 1.5, "step-00000004.ckpt"),
        (7, None, "step-00000007.ckpt"),
    ]
    assert store.newest_whole()[1] == []
    write(store, 8, 2.0)
    assert (read(store.directory / LAST), read(store.directory / BEST)) == (8, 4)


def test_a_failed_write_leaves_what_was_there_and_says_why(store, monkeypatch):
    write(store, 1)
    before = (store.directory / INDEX).read_text()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(store, 2)
    assert (store.directory / INDEX).read_text() == before
    assert steps(store) == [1]
    assert not [name for name in files(store) if name.endswith(".tmp")]


def test_files_elsewhere_are_written_and_not_listed(store, tmp_path):
    write(store, 1)
    CheckpointWriter(store).save_checkpoint(state(2), tmp_path / "elsewhere.ckpt")
    CheckpointWriter().save_checkpoint(state(3), tmp_path / "without.ckpt")
    assert steps(store) == [1]
    assert (read(tmp_path / "elsewhere.ckpt"), read(tmp_path / "without.ckpt")) == (2, 3)


def test_the_checksum_is_that_of_the_file(store):
    write(store, 1)
    (listed,) = json.loads((store.directory / INDEX).read_text())
    content = store.path(1).read_bytes()
    assert listed["bytes"] == len(content)
    assert listed["sha256"] == hashlib.sha256(content).hexdigest()
