"""How long the parts of a model take, and how much memory, beside diffusers' own modules with the same weights.

Where kernels run, each is a part too, beside its reference and beside that one compiled.

Shape suffixes: B batch, C channels, H W pixels or latent positions.

Arms are run in turn, round after round: ours, theirs, ours again. A machine that slows down slows all of them, and what
is told is the middle of the rounds' ratios. Ours against ours again (the A/A arm) says how much of a ratio is chance.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sanarestore import images
from sanarestore.engine.devices import pick_device
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError
from sanarestore.evaluation.kernel_speed import REPEATS, kernel_arms
from sanarestore.evaluation.memory import PeakMemory
from sanarestore.kernels import choice
from sanarestore.model.family import RANDOM, random_model
from sanarestore.model.loading import LatentPath, RestorationModel, load_model
from sanarestore.model.transformer import TIMESTEPS, Tokens
from sanarestore.options import RestoreOptions

WARM_UPS = 2
"""Runs of every arm that are not counted: kernels are chosen and memory is taken then."""

LONG = 10.0
"""Seconds after which two runs that count other things have warmed up enough."""

SMALL = 256
"""Side in pixels of an image that a tile holds."""

MATRIX, COPIED = 4096, 2**28
"""Side of the matrices, and bytes of the copies, that ceilings are measured with; a quarter of it on a CPU."""

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Something to time."""

    name: str
    ours: Work
    theirs: Work | None = None
    """The same by diffusers' modules alone, or by a kernel's reference; None where there is no such part."""
    compiled: Work | None = None
    """The same by a kernel's reference, compiled."""
    repeats: int = 1
    """Runs from one look at the clock to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceilings:
    """What this machine reaches at its best, in this arithmetic."""

    flops: float
    """Per second, of a large matrix product; a multiplication and an addition are two."""
    bandwidth: float
    """Bytes per second read and written, of a large copy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One part at one size."""

    part: str
    size: int
    """Side of the square image in pixels."""
    steps: int
    """Of the flow, in the part restore."""
    dtype: str
    device: str
    rounds: int
    seconds: float
    """Median of our rounds."""
    seconds_per_megapixel: float
    diffusers_seconds: float | None
    """Of a kernel, those of its reference."""
    ratio: float | None
    """diffusers' seconds over ours, median of the rounds: above 1, ours is faster."""
    ratio_interval: tuple[float, float] | None
    """Smallest and largest of the rounds."""
    compiled_seconds: float | None = None
    """Of a kernel's reference, compiled."""
    compiled_ratio: float | None = None
    """Those over ours, median of the rounds."""
    compiled_ratio_interval: tuple[float, float] | None = None
    chance: float
    """Ours again over ours, median of the rounds, as a factor of 1 or more: ratios closer to 1 say nothing."""
    peak_memory: int | None
    """Bytes beyond what was held before, weights for one."""
    beyond_buffers: int | None
    """Of them, in the part restore, those beyond the buffers that must grow with the image: the same for all sizes of
    more than a few tiles."""
    tile_area_factor: float | None
    """What tiles with their halos compute, in the part restore, over what the image in one piece would."""
    teraflop: float
    """What a run computes in products of matrices and convolutions."""
    of_compute: float
    """Share of the ceiling of computation that it reaches."""
    gigabytes: float
    """What its operations read and write one by one; a fused kernel needs less."""
    of_bandwidth: float
    """Share of the ceiling of memory; above 1 where caches serve."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that do not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure(options: RestoreOptions, device: str, sizes: Sequence[int], rounds: int) -> Iterator[Timing]:
    """Every part at every size, small sizes first; UsageError where model, sizes or rounds make no sense."""
    if rounds < 1 or not sizes or min(sizes) < 32:
        raise UsageError("takes sizes of 32 px or more, and a round at least", where="bench speed")
    place = pick_device(device)
    subject = Subject(options, place)
    ceilings = measured_ceilings(place, subject.dtype)
    for size in sorted(sizes):
        for part in subject.parts(size):
            yield _timed(part, subject, size, rounds, ceilings)


def growth(timings: Sequence[Timing]) -> dict[str, float]:
    """By part, the power of the pixel count that its seconds grow with, 1 being linear; of parts at several sizes.

    What tiles compute twice is divided out: it differs from size to size as they come out even.
    """
    found = {}
    for part in dict.fromkeys(timing.part for timing in timings):
        mine = [timing for timing in timings if timing.part == part]
        if len({timing.size for timing in mine}) > 1:
            pixels, seconds = (np.log([value(timing) for timing in mine]) for value in (_pixels, _seconds_a_piece))
            found[part] = float(np.polyfit(pixels, seconds, 1)[0])
    return found


class Subject:
    """A model on a device, and its parts."""

    def __init__(self, options: RestoreOptions, device: torch.device) -> None:
        self.device = device
        self.options = options
        automatic = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.dtype = automatic if options.dtype == "auto" else getattr(torch, options.dtype)
        self.model = _model(options, self.dtype)
        self.restorer = Restorer(options, device=str(device), model=self.model)
        prompt = options.prompt if options.prompt is not None else str(self.model.defaults["prompt"])
        self._tokens = Tokens.of([self.model.prompts.tokens(prompt).to(device)])

    def parts(self, size: int) -> Iterator[Part]:
        """The whole restoration; and where images go through the latent path, encoder, one step, and decoder."""
        image = _noise(size)
        pixels = image.pixels_HWC
        yield Part(name="restore", ours=lambda: self.restorer(image))
        latent = self.restorer.latent
        if latent is None:
            return
        encoder, decoder = self._theirs()
        side = size // latent.autoencoder.stride
        image_BCHW = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self.device)
        image_BCHW = image_BCHW[..., : side * latent.autoencoder.stride, : side * latent.autoencoder.stride]
        yield Part(
            name="encode",
            ours=lambda: latent.autoencoder.encode(image_BCHW),
            theirs=lambda: encoder(image_BCHW.to(self.dtype)),
        )
        latent_BCHW = torch.randn(1, latent.autoencoder.latent_channels, side, side, device=self.device)
        yield self._step(latent, latent_BCHW)
        yield Part(
            name="decode",
            ours=lambda: latent.autoencoder.decode(latent_BCHW),
            theirs=lambda: decoder(latent_BCHW.to(self.dtype)),
        )
        if choice.available(self.device):
            for name, ours, plain, compiled in kernel_arms(latent, size):
                yield Part(name=f"kernel: {name}", ours=ours, theirs=plain, compiled=compiled, repeats=REPEATS)

    @cache  # noqa: B019 - a subject lives as long as the command
    def flop_per_pixel(self) -> float:
        """Of a whole restoration in one piece."""
        side = min(self.restorer.tile, SMALL) // 32 * 32
        image = _noise(side)
        return _counted(lambda: self.restorer(image))[0] / side**2

    @cache  # noqa: B019 - a subject lives as long as the command
    def _theirs(self) -> list[nn.Module]:
        """diffusers' encoder and decoder, all in one arithmetic: ours keeps the ends in float32."""
        assert self.model.latent is not None
        halves = (self.model.latent.autoencoder.encoder, self.model.latent.autoencoder.decoder)
        return [copy.deepcopy(half).to(self.device, self.dtype).eval() for half in halves]

    def _step(self, latent: LatentPath, latent_BCHW: Tensor) -> Part:
        transformer: Any = latent.transformer.transformer
        sprint = bool(transformer.config.guidance_embeds)
        one_B = latent_BCHW.new_ones(1)

        def theirs() -> object:
            return transformer(
                latent_BCHW.to(self.dtype), encoder_hidden_states=self._tokens.token_BLD.to(self.dtype),
                encoder_attention_mask=self._tokens.mask_BL, timestep=one_B if sprint else one_B * TIMESTEPS,
                guidance=one_B.to(self.dtype) if sprint else None, return_dict=False,
            )[0]  # fmt: skip

        return Part(
            name="step",
            ours=lambda: latent.transformer(latent_BCHW, latent_BCHW, self._tokens, one_B),
            # A widened patch embedding takes both latents, which diffusers' own module does not.
            theirs=theirs if latent.transformer.condition.kind == "projection" else None,
        )


@torch.inference_mode()
def measured_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Of this device in this arithmetic, by a matrix product and by a copy: the best of some runs."""
    large = device.type != "cpu"
    side, size = (MATRIX, COPIED) if large else (MATRIX // 4, COPIED // 4)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product, copied = (
        min(_seconds_of(work, device) for _ in range(5))
        for work in (lambda: matrix @ matrix, lambda: target.copy_(source))
    )
    return Ceilings(flops=2 * side**3 / product, bandwidth=2 * size / copied)


def in_turn(arms: Sequence[Work], rounds: int, device: torch.device) -> list[list[float]]:
    """Seconds of every arm in every round; the first to go is another one each round."""
    found: list[list[float]] = [[0.0] * rounds for _ in arms]
    for number in range(rounds):
        for place in range(len(arms)):
            arm = (number + place) % len(arms)
            found[arm][number] = _seconds_of(arms[arm], device)
    return found


@torch.inference_mode()
def _timed(part: Part, subject: Subject, size: int, rounds: int, ceilings: Ceilings) -> Timing:
    arms = [partial(_repeated, arm, part.repeats) for arm in (part.ours, part.ours, part.theirs, part.compiled) if arm]
    whole = part.name == "restore"
    # Before memory is watched: what the first run of all takes for good is not this size's.
    in_one_piece = subject.flop_per_pixel() * size**2 if whole else None
    watch = PeakMemory(subject.device)
    once = _seconds_of(part.ours, subject.device)
    memory = watch.taken()
    flop, moved = _counted(part.ours)
    in_turn(arms[2:] if once > LONG else arms, WARM_UPS, subject.device)
    ours, again, *others = in_turn(arms, rounds, subject.device)
    seconds = statistics.median(ours) / part.repeats
    chance, _ = _ratio(again, ours)
    (theirs, ratio, interval), (compiled, compiled_ratio, compiled_interval) = (
        (statistics.median(arm) / part.repeats, *_ratio(arm, ours)) if arm else (None, None, None)
        for arm in (*others, [], [])[:2]
    )
    return Timing(
        part=part.name, size=size, steps=subject.options.steps or int(subject.model.defaults.get("steps", 1)),
        dtype=str(subject.dtype).removeprefix("torch."), device=str(subject.device), rounds=rounds,
        seconds=seconds, seconds_per_megapixel=seconds / (size * size / 1e6),
        diffusers_seconds=theirs, ratio=ratio, ratio_interval=interval,
        compiled_seconds=compiled, compiled_ratio=compiled_ratio, compiled_ratio_interval=compiled_interval,
        chance=math.exp(abs(math.log(chance))), peak_memory=memory,
        beyond_buffers=memory - subject.restorer.buffers(size, size) if whole and memory is not None else None,
        tile_area_factor=flop / in_one_piece if in_one_piece else None,
        teraflop=flop / 1e12, of_compute=flop / seconds / ceilings.flops,
        gigabytes=moved / 1e9, of_bandwidth=moved / seconds / ceilings.bandwidth,
    )  # fmt: skip


def _repeated(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def _ratio(others: Sequence[float], ours: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Theirs over ours: the median of the rounds, and the smallest and the largest."""
    ratios = [other / own for other, own in zip(others, ours, strict=True)]
    return statistics.median(ratios), (min(ratios), max(ratios))


def _seconds_of(work: Work, device: torch.device) -> float:
    _wait(device)
    begun = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    """Until a device that works on its own is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class _Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that operations take and give; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in torch.utils._pytree.tree_leaves((args, kwargs, given)):
                self.bytes += tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0
        return given


def _counted(work: Work) -> tuple[int, int]:
    """Floating-point operations and bytes moved of one run; of kernels, those of their references, which are seen."""
    with choice.references(), FlopCounterMode(display=False) as flop, _Moved() as moved:
        work()
    return flop.get_total_flops(), moved.bytes


def _model(options: RestoreOptions, dtype: torch.dtype) -> RestorationModel:
    if options.model is not None and options.model.startswith(RANDOM):
        return random_model(options.model, dtype=dtype)
    return load_model(options.model, options.adapter, dtype=dtype)


def _noise(side: int) -> images.Image:
    pixels = np.random.default_rng(0).random((side, side, 3), dtype=np.float32)
    return images.Image(pixels_HWC=pixels, depth="float32", format="tiff")


def _pixels(timing: Timing) -> float:
    return float(timing.size) ** 2


def _seconds_a_piece(timing: Timing) -> float:
    """What the image in one piece would take."""
    return timing.seconds / (timing.tile_area_factor or 1)
