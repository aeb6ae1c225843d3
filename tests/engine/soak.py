"""A batch that is killed again and again: `python -m tests.engine.soak --files 10000 --kills 10`.

Small mixed files are made (four formats, nested, with odd names; damaged, hostile and foreign ones among them) and
restored while parents and workers are killed at random moments, and with a disk that is full once. With `--ray`, they
are also restored on a cluster of two nodes on this machine, of which one is killed in the middle. At the end every file
must be in exactly one state, the results must equal those of a calm run with one worker, byte by byte, and nothing may
be left over.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import tifffile
from PIL import Image

from sanarestore.engine.journal import NAME
from tests.two_nodes import TwoNodes, environment

NAMES = ("photo", "two words", "Größe", "写真", "-dash", "quote'\"", "[red]", "per%cent", "dot.dot", "new\nline")
FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "webp": "WEBP"}
DAMAGED, HOSTILE, FOREIGN = 0.02, 0.01, 0.02


@dataclass
class Report:
    """What was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    resume_seconds: float = 0.0


def make(folder: Path, files: int, seed: int = 0) -> None:
    """Make the files of a batch."""
    rng = random.Random(seed)
    for number in range(files):
        suffix = rng.choice(list(FORMATS))
        name = f"{rng.choice(NAMES)} {number}.{suffix}"
        path = folder.joinpath(*(f"d{rng.randrange(6)}" for _ in range(rng.randrange(3))), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _encoded(rng, suffix)
        kind = rng.random()
        if kind < DAMAGED:
            data = data[: rng.randrange(len(data) // 4, len(data) * 3 // 4)]
        elif kind < DAMAGED + HOSTILE:
            data, path = _hostile(rng), path.with_suffix(".jpg")
        elif kind < DAMAGED + HOSTILE + FOREIGN:
            data, path = b"nothing to restore", path.with_suffix(".txt")
        path.write_bytes(data)


def _encoded(rng: random.Random, suffix: str) -> bytes:
    height, width = rng.randrange(8, 97), rng.randrange(8, 97)
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 10, (height, width, 3))
    pixels = (np.stack([x * 2, y * 2, x + y], axis=-1) + 30 + noise).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    if suffix == "tif":
        tifffile.imwrite(buffer, pixels.astype(np.uint16) * 257, photometric="rgb")
    else:
        Image.fromarray(pixels).save(buffer, FORMATS[suffix])
    return buffer.getvalue()


def _hostile(rng: random.Random) -> bytes:
    """A JPEG file whose EXIF points at itself, or one that claims a gigapixel."""
    plain = _encoded(rng, "jpg")
    if rng.random() < 0.5:
        at = plain.index(b"\xff\xc0") + 5
        return plain[:at] + struct.pack(">HH", 65000, 65000) + plain[at + 4 :]
    entries = b"".join(struct.pack("<HHLL", 0x8769 if n % 2 else 0xA005, 4, 1, 8) for n in range(400))
    block = b"Exif\0\0II*\0\10\0\0\0" + struct.pack("<H", 400) + entries + bytes(4)
    return plain[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(block) + 2) + block + plain[2:]


def command(given: Path, output: Path, model: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "sanarestore", "restore", str(given), "-o", str(output), "--model", str(model)]
    return [*start, "--json", "--threads", "1", *more]


def restored(given: Path, output: Path, model: Path, *more: str) -> list[dict[str, object]]:
    """Restore without disturbance; return the outcomes."""
    ended = subprocess.run(command(given, output, model, *more), capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def patience() -> float:
    """Seconds in which workers must end after their batch: three, and more where they have to wait for a core."""
    waiting = os.getloadavg()[0] / len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1.0
    return 3 * max(waiting, 1.0)


def killed(given: Path, output: Path, model: Path, rng: random.Random, report: Report, seconds: float) -> bool:
    """Restore, and kill the parent or a worker after a while; whether the batch ended by itself before."""
    with tempfile.TemporaryFile() as printed:
        batch = subprocess.Popen(
            command(given, output, model, "--devices", "cpu,cpu"), stdout=printed, stderr=subprocess.DEVNULL
        )
        try:
            batch.wait(rng.uniform(0.5, seconds))
        except subprocess.TimeoutExpired:
            children = psutil.Process(batch.pid).children()
            victim = rng.choice(["parent", "worker"]) if children else "parent"
            report.kills[victim] += 1
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                os.kill(batch.pid if victim == "parent" else rng.choice(children).pid, signal.SIGKILL)
            if victim == "worker":  # the batch goes on with another
                with suppress(subprocess.TimeoutExpired):
                    batch.wait(rng.uniform(0.5, seconds))
                batch.terminate()
            batch.wait()
            _, alive = psutil.wait_procs(children, timeout=patience())
            assert not alive, f"workers outlive their batch: {alive}"
            return False
        return True


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of a size in bytes at a folder, where the system permits; whether it does."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = (
        sys.platform == "linux" and shutil.which("mount") is not None
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
        ).returncode == 0
    )  # fmt: skip
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def full_disk(given: Path, folder: Path, model: Path, report: Report) -> None:
    """A batch stops on a full disk, with one message and without left-overs, and resumes when there is room."""
    size = sum(path.stat().st_size for path in given.rglob("*") if path.is_file())
    with small_disk(folder / "disk", max(size // 4, 65536)) as mounted:
        if not mounted:
            return
        report.kills["full disk"] += 1
        output = folder / "disk/out"
        ended = subprocess.run(command(given, output, model), capture_output=True, text=True, check=False)
        assert ended.returncode == 1, ended.stderr
        assert ended.stderr.count("the disk is full") == 1, ended.stderr
        assert not list(output.rglob(".sanarestore-*")), "something is left over"
        subprocess.run(["mount", "-o", f"remount,size={size * 20}", folder / "disk"], check=True)
        states = Counter(line["status"] for line in restored(given, output, model))
        assert states["skipped"] > 0, "nothing was kept"


def lost_node(given: Path, output: Path, model: Path, files: int, report: Report) -> list[dict[str, object]]:
    """Restore on a cluster of two nodes, and kill one after a quarter of the files; return the outcomes."""
    os.environ.update(environment())
    nodes = TwoNodes()
    try:
        nodes.add_second()
        with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as said:
            batch = subprocess.Popen(command(given, output, model, "--ray", nodes.address), stdout=printed, stderr=said)
            while batch.poll() is None and _recorded(output) < files // 4:
                time.sleep(0.1)
            assert batch.poll() is None, "the batch ended before a node was lost"
            nodes.kill_second()
            report.kills["node"] += 1
            batch.wait()
            for stream in (printed, said):
                stream.seek(0)
            assert batch.returncode in (0, 1), said.read()
            return [json.loads(line) for line in printed]
    finally:
        nodes.shutdown()


def _recorded(output: Path) -> int:
    """Number of results in the journal."""
    journal = output / NAME
    return journal.read_bytes().count(b'"status": "done"') if journal.exists() else 0


def soak(
    folder: Path, model: Path, *, files: int, kills: int, seed: int = 0, seconds: float = 6.0, ray: bool = False
) -> Report:
    """Run it all in a folder; AssertionError for whatever does not hold."""
    rng, report = random.Random(seed), Report()
    given, output, calm = folder / "in", folder / "out", folder / "calm"
    make(given, files, seed)
    while sum(report.kills.values()) < kills:
        if killed(given, output, model, rng, report, seconds):
            shutil.rmtree(output)  # it was done too early: begin again
    full_disk(given, folder, model, report)
    outcomes = restored(given, output, model, "--devices", "cpu,cpu")
    expected = restored(given, calm, model)
    outputs = [output]
    runs = [outcomes, expected]
    if ray:
        outputs.append(folder / "cluster")
        runs.append(lost_node(given, outputs[-1], model, files, report))
    begun = time.perf_counter()
    resumed = restored(given, output, model)
    report.resume_seconds = time.perf_counter() - begun
    report.states = Counter(str(line["status"]) for line in expected)

    names = {str(path) for path in given.rglob("*") if path.is_file()}
    for lines in (*runs, resumed):
        found = Counter(str(line["input"]) for line in lines)
        assert set(found) == names, "a file has no outcome"
        assert set(found.values()) == {1}, "a file has two outcomes"
    failed = {str(line["input"]): line["reason"] for line in expected if line["status"] == "failed"}
    for lines in runs:
        assert {str(line["input"]): line["reason"] for line in lines if line["status"] == "failed"} == failed
    assert {str(line["input"]) for line in resumed if line["status"] == "failed"} == set(failed)
    assert sum(line["status"] == "done" for line in resumed) == 0, "finished files were done again"
    for made in outputs:
        assert _contents(made) == _contents(calm), "results differ from those of a calm run"
        left = [path for path in made.rglob("*") if path.name.startswith(".")]
        assert not left, f"left over: {left}"
    return report


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".jsonl"
    }


def main() -> None:
    """Run from the command line with the embedded model, or another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="longest time before a kill")
    parser.add_argument("--ray", action="store_true", help="lose a node of a Ray cluster too")
    parser.add_argument("--model", type=Path, required=True)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        report = soak(
            Path(folder), chosen.model, files=chosen.files, kills=chosen.kills, seed=chosen.seed,
            seconds=chosen.seconds, ray=chosen.ray,
        )  # fmt: skip
    print(f"states {dict(report.states)}; killed {dict(report.kills)}")
    print(f"resume {report.resume_seconds:.1f} s; all {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
