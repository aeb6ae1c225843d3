"""Tests of the memory that files may take: sizes as users write them, estimates, and waiting for other files."""

import threading
import time
from dataclasses import replace

import pytest

from sanarestore.engine import budget
from sanarestore.engine.budget import Budget, free_memory, memory_to_restore
from sanarestore.errors import OutOfMemory, UsageError
from sanarestore.images import Header
from sanarestore.sizes import parse_size


def header(width: int, height: int) -> Header:
    return Header(width=width, height=height, channels=3, depth="uint8", format="png", file_size=1000, sample_bytes=1)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8G", 8 * 10**9), ("500m", 500 * 10**6), ("2GiB", 2**31), ("1.5 GB", 15 * 10**8), ("12345", 12345)],
)
def test_sizes_are_parsed(text: str, size: int) -> None:
    assert parse_size(text, "--memory-per-file") == size


@pytest.mark.parametrize("text", ["", "many", "0", "-3G", "3X", "G", "9" * 400])
def test_other_words_are_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--memory-per-file"):
        parse_size(text, "--memory-per-file")


def test_the_estimate_grows_with_the_image_its_enlargement_and_the_latent_path() -> None:
    small, large = header(1000, 1000), header(4000, 1000)
    plain = memory_to_restore(large, large, tile=None)
    assert plain >= 24 * 4_000_000, "the image and its result"
    assert memory_to_restore(small, small, tile=None) < plain / 3
    assert memory_to_restore(large, header(8000, 2000), tile=None) > 3 * plain
    assert memory_to_restore(large, large, tile=None, is_generated=True) > plain
    tiled = memory_to_restore(large, large, tile=500)
    assert tiled < memory_to_restore(large, large, tile=1500) < memory_to_restore(large, large, tile=9000)


def test_the_estimate_counts_a_photograph_that_is_shrunk_at_its_full_size() -> None:
    large, small = header(4000, 1000), header(400, 100)
    assert 24 * 4_000_000 <= memory_to_restore(large, small, tile=None) <= memory_to_restore(large, large, tile=None)


def test_the_estimate_follows_the_format_and_depth_of_the_result() -> None:
    large = header(4000, 1000)
    plain = memory_to_restore(large, large, tile=None)
    assert memory_to_restore(large, replace(large, depth="uint16"), tile=None) > plain
    assert memory_to_restore(large, replace(large, format="webp"), tile=None) > plain


def test_free_memory_is_that_of_the_container(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    assert free_memory() > 10**8
    (tmp_path / "max").write_text("5000000\n")
    (tmp_path / "current").write_text("2000000\n")
    monkeypatch.setattr(budget, "_CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "current")),))
    assert free_memory() == 3_000_000
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 1500000\nactive_file 7\n")
    assert free_memory() == 4_500_000, "what was read from files can be dropped"
    (tmp_path / "max").write_text("max\n")
    assert free_memory() > 10**8


@pytest.mark.parametrize(("is_chosen", "step"), [(True, "Raise --memory-per-file"), (False, "Close other programs")])
def test_a_file_that_would_not_fit_alone_is_refused_with_the_figures(is_chosen: bool, step: str) -> None:
    with pytest.raises(OutOfMemory, match=rf"12\.0 GB of memory, and 8\.0 GB.*{step}"):
        Budget(8 * 10**9, is_chosen=is_chosen).take("a", 12 * 10**9)


def test_a_file_waits_for_the_others() -> None:
    shared = Budget(100, is_chosen=True)
    shared.take("a", 60)
    shared.take("b", 40)
    events: list[str] = []

    def wait() -> None:
        shared.take("c", 50)
        events.append("c has it")

    thread = threading.Thread(target=wait)
    thread.start()
    shared.give_back("b")
    shared.give_back("unknown")
    time.sleep(0.05)
    events.append("a gives back")
    shared.give_back("a")
    thread.join(5)
    assert events == ["a gives back", "c has it"]
