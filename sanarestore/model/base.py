"""Read and write SANA checkpoints in the published diffusers layout, the bases of restoration models.

model_index.json   the diffusers index
transformer/       SanaTransformer2DModel, in one file or shards, with or without a variant such as fp16
vae/               AutoencoderDC
text_encoder/ tokenizer/   Gemma-2
scheduler/         solver and shift of the flow
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.files import sampled_hash
from sanarestore.flow import Flow, Solver
from sanarestore.model import quantization
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.prompts import PromptCache, Prompts, load_encoder
from sanarestore.model.reading import load_embedded_reader
from sanarestore.model.tensors import load_strictly, read_tensors, write_json, write_tensors

SOLVERS: dict[str, Solver] = {
    "DPMSolverMultistepScheduler": "dpm",
    "FlowMatchEulerDiscreteScheduler": "euler",
    "SCMScheduler": "consistency",
}
"""Solver of a base, by the scheduler class that it was published with."""

WEIGHTS = "diffusion_pytorch_model.safetensors"

QUANTIZATION = "quantization"
"""Key of a transformer's configuration that names the precision of quantized weights."""

CLASSES = {"transformer": "SanaTransformer2DModel", "vae": "AutoencoderDC"}
"""Classes of the parts in diffusers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A text-to-image model; without a condition on the photograph it cannot restore."""

    name: str
    folder: Path
    transformer: Any
    """diffusers' SanaTransformer2DModel."""
    autoencoder: Autoencoder
    flow: Flow
    prompts: Prompts


def load_base(
    name: str, *, dtype: torch.dtype = torch.float32, cache: Path | None = None, transformer: Path | None = None,
    autoencoder: str | None = None,
) -> Base:  # fmt: skip
    """Load a base by folder or hub id (see `weights.resolve`), on the CPU; WeightsError if it is incomplete or invalid.

    `transformer` is a folder to read that part from, in place of the base's own; `autoencoder` a folder or hub id (see
    `autoencoder_in`). The text encoder is loaded only for a prompt whose embedding is not in the folder `cache`
    (default: the user's).
    """
    folder = weights.resolve(name)
    _check_index(folder)
    encoder = sampled_hash(folder, "text_encoder", "tokenizer")
    return Base(
        name=name,
        folder=folder,
        transformer=load_transformer(transformer or folder / "transformer", dtype),
        autoencoder=load_autoencoder(autoencoder_in(folder, autoencoder)),
        flow=read_flow(folder),
        prompts=Prompts(
            {}, lambda: load_encoder(folder), load_embedded_reader, cache=PromptCache(encoder, cache), as_typed=True
        ),
    )


def load_autoencoder(folder: Path) -> Autoencoder:
    """Load a frozen AutoencoderDC of diffusers in float32; WeightsError if anything is missing or invalid."""
    from diffusers import AutoencoderDC

    return Autoencoder(load_module(AutoencoderDC, folder, torch.float32)).eval().requires_grad_(False)


def autoencoder_in(base: Path, other: str | None) -> Path:
    """Return the folder of a base's autoencoder, or of the DC-AE that replaces it, whose latents must have the same
    form.

    WeightsError if the replacement's latents differ in channels, stride or scaling factor, since the transformer was
    trained on those of the base. DC-AE 1.0, 1.1 and Lite agree in all three.
    """
    if other is None:
        return base / "vae"
    folder = weights.autoencoder_folder(other)
    wanted, found = (read_json(each / "config.json") for each in (base / "vae", folder))
    kind = found.get("_class_name")
    if kind != CLASSES["vae"]:
        raise WeightsError(
            f"it holds {kind or 'no autoencoder'}, not an {CLASSES['vae']}", where=folder,
            next_step="Name a DC-AE in diffusers' layout with --autoencoder.",
        )  # fmt: skip
    ours, theirs = _latent_form(wanted, base / "vae"), _latent_form(found, folder)
    for name, value in ours.items():
        if theirs[name] != value:
            raise WeightsError(
                f"its latents have {theirs[name]:g} {name}, and those of the base {value:g}", where=folder,
                next_step="Name a DC-AE with latents like the base's, such as another version of the same.",
            )  # fmt: skip
    return folder


def _latent_form(config: dict[str, Any], folder: Path) -> dict[str, float]:
    """The values that two autoencoders must share to share latents; those that a configuration leaves out are
    diffusers' defaults. WeightsError if it is invalid."""
    try:
        encoder, decoder = (len(config[f"{half}_block_out_channels"]) for half in ("encoder", "decoder"))
        return {
            "channels": int(config.get("latent_channels", 32)),
            "pixels a side when encoded": 2 ** (encoder - 1),
            "pixels a side when decoded": 2 ** (decoder - 1),
            "as scaling factor": float(config.get("scaling_factor", 1.0)),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the configuration is not that of a DC-AE ({error!r})", where=folder, next_step=weights.FETCH
        ) from error


def load_transformer(folder: Path, dtype: torch.dtype) -> Any:
    """Load a frozen SanaTransformer2DModel of diffusers; WeightsError if anything is missing or invalid.

    Quantized weights, as `write_module` writes them, stay as they are; only what is not quantized has the `dtype`.
    """
    from diffusers import SanaTransformer2DModel

    config = read_json(folder / "config.json")
    if QUANTIZATION not in config:
        return load_module(SanaTransformer2DModel, folder, dtype).eval().requires_grad_(False)
    try:
        precision = quantization.precision_of(config.pop(QUANTIZATION))
    except ValueError as error:
        raise WeightsError(f"{error}", where=folder / "config.json", next_step=weights.FETCH) from error
    make: Any = SanaTransformer2DModel.from_config
    with torch.device("meta"):  # so the unquantized weights are never in memory
        transformer = make(config)
        quantization.prepare(transformer, precision)
    load_strictly(transformer, read_tensors(folder / WEIGHTS, as_stored=True), folder)
    return transformer.to(dtype).eval().requires_grad_(False)


def write_base(folder: Path, transformer: Any, autoencoder: Autoencoder, flow: Flow) -> dict[str, list[str]]:
    """Write transformer/, vae/ and scheduler/ in float16, as `load_base` reads them; returns their index entries."""
    write_module(folder / "transformer", transformer)
    write_module(folder / "vae", autoencoder)
    kind = next(name for name, solver in SOLVERS.items() if solver == flow.solver)
    shift = {"flow_shift": flow.shift, "use_flow_sigmas": True} if flow.solver == "dpm" else {"shift": flow.shift}
    (folder / "scheduler").mkdir(exist_ok=True)
    scheduler = {"_class_name": kind, "prediction_type": "flow_prediction", **shift}
    write_json(folder / "scheduler/scheduler_config.json", scheduler)
    return {**{part: ["diffusers", name] for part, name in CLASSES.items()}, "scheduler": ["diffusers", kind]}


def write_module(folder: Path, module: Any) -> None:
    """Write a transformer or an autoencoder in float16, as `load_base` reads it; the folder's name sets its class.

    Quantized layers are written as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in module.config.items() if key != "_name_or_path"}
    precision, exact = quantization.quantization(module), quantization.exact_names(module)
    if precision is not None:
        config[QUANTIZATION] = precision
    write_json(folder / "config.json", {"_class_name": CLASSES[folder.name], **config})
    tensors = {name: tensor if name in exact else tensor.half() for name, tensor in module.state_dict().items()}
    write_tensors(folder / WEIGHTS, tensors)


def read_flow(folder: Path) -> Flow:
    """Read solver and shift from scheduler/scheduler_config.json; WeightsError for an unknown scheduler."""
    path = folder / "scheduler/scheduler_config.json"
    config = read_json(path)
    kind = str(config.get("_class_name"))
    if kind not in SOLVERS:
        raise WeightsError(
            f"a scheduler of class {kind} is not one that SANA uses", where=path, next_step=weights.FETCH
        )
    shift = config.get("flow_shift") if kind == "DPMSolverMultistepScheduler" else config.get("shift")
    return Flow(solver=SOLVERS[kind], shift=1.0 if shift is None else float(shift))


def _check_index(folder: Path) -> None:
    index = read_json(folder / "model_index.json")
    for part, wanted in CLASSES.items():
        found = (index.get(part) or [None, None])[1]
        if found != wanted:
            raise WeightsError(
                f"its {part} is {found or 'missing'}, not a {wanted}",
                where=folder,
                next_step="Name a SANA model in the diffusers layout.",
            )


def load_module(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one part strictly, by its diffusers class; WeightsError if it cannot be read or its tensors do not match.

    The variant is the one found in the folder.
    """
    make: Callable[..., Any] = kind.from_pretrained
    try:
        module, found = make(
            folder, torch_dtype=dtype, variant=_variant(folder), use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # the libraries raise many types; to the user they are one error
        raise WeightsError(f"cannot be loaded ({_first_line(error)})", where=folder, next_step=weights.FETCH) from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found.get(problem):
            names = sorted(map(str, found[problem]))
            raise WeightsError(
                f"{problem.replace('_', ' ')}: {names[0]} ({len(names)} in all)", where=folder, next_step=weights.FETCH
            )
    return module


def _variant(folder: Path) -> str | None:
    """Variant of the weights in a folder: None if some have no variant, otherwise the first in alphabetical order."""
    pattern = re.compile(
        r"diffusion_pytorch_model(?:\.safetensors\.index)?(?:\.(?P<variant>[a-z0-9]+))?"
        r"(?:-\d{5}-of-\d{5})?\.(?:safetensors|json)"
    )
    found = {match["variant"] for path in folder.glob("*") if (match := pattern.fullmatch(path.name))}
    return None if None in found or not found else sorted(found)[0]


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a base; WeightsError if it is missing or invalid."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError("the file is missing", where=path, next_step=weights.FETCH) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot be read ({_first_line(error)})", where=path, next_step=weights.FETCH) from error
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
