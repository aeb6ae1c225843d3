"""A model's refiner or expert written as an ONNX file, with what a program needs to know to run it in tiles."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sanarestore import weights
from sanarestore.errors import UnwritableImage, UsageError
from sanarestore.model.exporting import OPSET, export_refiner
from sanarestore.model.loading import load_model


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxFile:
    """An exported file."""

    file: Path
    size: int
    """Bytes."""
    expert: str | None
    """None for the general refiner."""
    prompt: str
    """Wording whose embedding is the default of the input `prompt`."""
    stride: int
    """Height, width and tile origins are multiples of this, in pixels."""
    halo: int
    """Context that a tile needs on each side, in pixels."""
    margin: int
    """Mirrored margin to add around the photograph, in pixels."""
    opset: int
    difference: float
    """Largest difference from PyTorch's result, for random images."""

    def to_json(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return {**asdict(self), "file": str(self.file)}


def export_onnx(
    name: str, path: Path, *, expert: str | None = None, prompt: str | None = None, overwrite: bool = False
) -> OnnxFile:
    """Write the general refiner of a model, or one of its experts, as an ONNX file.

    Without a `prompt`, that of the model's defaults is used. UsageError for an unknown expert, a prompt that asks for
    light or colour, or missing libraries; WeightsError if the model cannot be loaded.
    """
    if path.exists() and not overwrite:
        raise UnwritableImage("it exists already", where=path, next_step="Choose another name, or allow --overwrite.")
    model = load_model(name)
    refiner = model.refiner
    if expert is not None:
        if model.experts is None or expert not in model.experts.names:
            known = ", ".join(model.experts.names) if model.experts else ""
            raise UsageError(
                f"'{expert}' is not an expert of {name}", where="--expert",
                next_step=f"Use {known}." if known else "Leave it out.",
            )  # fmt: skip
        refiner = model.experts.refiner(expert, model.refiner)
    typed = str(model.defaults["prompt"]) if prompt is None else prompt
    request = model.prompts.request(typed)
    if request.is_lit or request.is_coloured:
        raise UsageError(
            "light and colour are corrected for the whole photograph, and the file restores tiles", where="--prompt",
            next_step="Leave light and colour to sanarestore itself.",
        )  # fmt: skip
    wording = model.prompts.wording(typed, request)
    model.prompts.fetch([wording])
    about = {
        "model": model.name, "expert": expert or "", "prompt": wording, "weights": model.fingerprint,
        "licence": weights.licence(model.folder),
    }  # fmt: skip
    difference = export_refiner(refiner, model.prompts.pooled(wording)[None], path, about)
    return OnnxFile(
        file=path, size=path.stat().st_size, expert=expert, prompt=wording, stride=refiner.stride, halo=refiner.halo,
        margin=refiner.margin, opset=OPSET, difference=difference,
    )  # fmt: skip
