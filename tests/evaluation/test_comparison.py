"""Tests of comparisons between runs, which separate changes from the noise of the choice of images."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from sanarestore.errors import UsageError
from sanarestore.evaluation.comparison import EarlierRows, compare, read_rows, unmatched
from sanarestore.evaluation.rows import Row
from sanarestore.ndjson import SCHEMA_VERSION


def row(psnr_per_image: dict[str, float], **fields: str) -> Row:
    named = {"dataset": "d", "task": "denoise", "level": "25", "protocol": "p/1", "method": "ours", **fields}
    mean = float(np.mean(list(psnr_per_image.values())))
    return Row(
        **named, images=len(psnr_per_image), psnr=mean, interval=(mean, mean), gain=0.0, gain_interval=(0.0, 0.0),
        improved=0.0, ssim=None, psnr_y=None, psnr_b=None, lpips=None, dists=None, fid=None, seed_deviation=None,
        seed_agreement=None, sharpness=None, right_beats_wrong=None, margin=None, parameters=None, peak_memory=None,
        seconds_per_megapixel=1.0, prompt=None, conditions="", ssim_y=None, psnr_per_image=psnr_per_image,
    )  # type: ignore[arg-type] # fmt: skip


def earlier(then: Row) -> EarlierRows:
    return EarlierRows(**{field.name: getattr(then, field.name) for field in fields(EarlierRows)})


THEN = {f"{n}.png": 30.0 + n for n in range(10)}


def test_only_a_change_shared_by_the_images_exceeds_noise() -> None:
    rng = np.random.default_rng(0)
    better = row({name: psnr + 0.05 + 0.01 * rng.random() for name, psnr in THEN.items()})
    (change,) = compare([earlier(row(THEN))], [better])
    assert change.change == pytest.approx(0.055, abs=0.005)
    assert change.exceeds_noise
    assert change.interval[0] < change.change < change.interval[1]
    (one,) = compare([earlier(row(THEN))], [row({**THEN, "3.png": 40.0})])
    assert one.change == pytest.approx(0.7)
    assert not one.exceeds_noise
    (none,) = compare([earlier(row(THEN))], [row(THEN)])
    assert not none.exceeds_noise
    assert none.to_json()["change"] == 0


def test_only_common_images_under_the_same_protocol_are_compared() -> None:
    (change,) = compare([earlier(row({**THEN, "gone.png": 0.0}))], [row({"3.png": 34.0, "new.png": 99.0})])
    assert (change.images, change.before, change.after) == (1, 33.0, 34.0)
    assert compare([earlier(row(THEN))], [row(THEN, protocol="p/2"), row({"new.png": 1.0})]) == []
    assert compare([earlier(row(THEN, method="nlm"))], [replace(row(THEN), level="15")]) == []


def test_few_images_give_no_verdict_and_a_tiny_change_is_noise() -> None:
    few = {name: THEN[name] for name in ("0.png", "1.png", "2.png", "3.png")}
    (change,) = compare([earlier(row(few))], [row({name: psnr + 1 for name, psnr in few.items()})])
    assert change.exceeds_noise is None
    (change,) = compare([earlier(row(THEN))], [row({name: psnr + 1e-6 for name, psnr in THEN.items()})])
    assert change.exceeds_noise is False


def test_rows_that_cannot_be_compared_are_listed_with_a_reason() -> None:
    old = [earlier(row(THEN))]
    assert unmatched(old, [row(THEN)]) == []
    assert unmatched(old, [row(THEN, method="nlm")]) == ["d denoise 25: nlm was not measured then"]
    assert unmatched(old, [row(THEN, protocol="p/2")]) == [
        "d denoise 25: ours was measured as p/1 then, and as p/2 now"
    ]
    assert unmatched(old, [row({"new.png": 1.0})]) == ["d denoise 25: ours was measured on other images then"]


def test_rows_are_read_from_the_output_of_bench(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in ({"compared": True}, row(THEN).to_json())))
    assert read_rows(path) == [earlier(row(THEN))]
    damaged = [{**row(THEN).to_json(), "psnr_per_image": images} for images in (None, [1], {"a.png": "30"})]
    none = ["[1]\n", "", *map(json.dumps, damaged)]
    for text, message in (("{", "cannot be read"), *((text, "no rows") for text in none)):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_rows(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_rows(tmp_path / "none.json")


def test_rows_of_an_earlier_schema_are_read_under_their_new_names(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    now = row(THEN, task="reconstruction", level="clean", protocol="reconstruction/1")
    then = {**now.to_json(), "schema_version": 1, "task": "ceiling"}
    path.write_text(json.dumps(then) + "\n")
    (change,) = compare(read_rows(path), [now])
    assert change.change == 0


def test_rows_of_a_later_schema_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "later.json"
    path.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, **row(THEN).to_json()}) + "\n")
    with pytest.raises(UsageError, match=f"a later version of sanarestore: its schema_version is {SCHEMA_VERSION + 1}"):
        read_rows(path)
