"""A run goes on whatever has happened to its files, and says what is wrong with them."""

from pathlib import Path

from tests.training.going_on import assert_equal, go_on


def newest(run: Path) -> Path:
    return max(run.glob("checkpoints/step-*.ckpt"))


def damage(path: Path, *, size: int | None = None) -> None:
    """Cut a file short, or flip a bit in its middle. Its other names keep the content, as a backup would."""
    content = bytearray(path.read_bytes()[:size])
    if size is None:
        content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(stopped, whole):
    size = newest(stopped).stat().st_size
    damage(newest(stopped), size=size // 2)
    outcome = go_on(stopped)
    assert outcome.status == 0, outcome.stderr
    assert f"from step 4; step-00000005.ckpt has {size // 2} of {size} bytes" in outcome.stderr
    assert_equal(whole, stopped)


def test_a_checkpoint_with_a_flipped_bit_is_passed_over_for_the_one_before(stopped, whole):
    damage(newest(stopped))
    outcome = go_on(stopped)
    assert outcome.status == 0, outcome.stderr
    assert "from step 4; step-00000005.ckpt is damaged: its checksum is another" in outcome.stderr
    assert_equal(whole, stopped)


def test_without_any_whole_checkpoint_it_says_so_and_starts_from_the_beginning(stopped, whole):
    for path in stopped.glob("checkpoints/step-*.ckpt"):
        damage(path)
    outcome = go_on(stopped)
    assert outcome.status == 0, outcome.stderr
    said = " ".join(outcome.stderr.split())
    assert "from the beginning: no checkpoint is whole; step-00000005.ckpt is damaged" in said
    assert said.count("its checksum is another") == 3
    assert_equal(whole, stopped)


def test_a_lost_index_does_no_harm(stopped, whole):
    (stopped / "checkpoints/index.json").unlink()
    damage(newest(stopped), size=1000)
    for name in ("last.ckpt", "best.ckpt"):
        (stopped / "checkpoints" / name).unlink()
    outcome = go_on(stopped)
    assert outcome.status == 0, outcome.stderr
    assert "from step 4" in outcome.stderr
    assert_equal(whole, stopped)


def test_what_a_killed_process_left_half_written_is_removed(stopped, whole):
    (stopped / "checkpoints/.step-00000006.ckpt.123.tmp").write_bytes(b"half")
    (stopped / "checkpoints/step-00000006.ckpt").write_bytes(b"renamed, and not listed any more")
    with open(stopped / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "train/lo')
    assert go_on(stopped).status == 0
    assert not list(stopped.glob("checkpoints/.*.tmp"))
    assert_equal(whole, stopped)
