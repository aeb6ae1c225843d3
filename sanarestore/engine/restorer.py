"""The restoration pipeline: stage after stage, each over the whole host array in tiles.

Shape suffixes: C channels, H W pixels of the image, h w pixels of a window, D prompt features.
"""

import math
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any, Unpack, overload

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from sanarestore import images
from sanarestore.degradations.requests import Request
from sanarestore.engine.candidates import best_of
from sanarestore.engine.devices import arithmetic, exactly_float32, pick_device, pick_dtype
from sanarestore.engine.generation import Draw, Generation, Watch, new_generation
from sanarestore.engine.jobs import Candidate
from sanarestore.engine.judges import judge_of, judgement
from sanarestore.engine.keywords import OF_ONE_IMAGE, CallKeywords, Keywords, WriteKeywords
from sanarestore.engine.kinds import opened
from sanarestore.engine.latent_use import is_generated, steps_of
from sanarestore.engine.pixels import check_finite, finished, host_tensor, is_gray, resized, visible, with_visible
from sanarestore.engine.placement import placement
from sanarestore.engine.python_words import keywords_named
from sanarestore.engine.refinement import Refinement
from sanarestore.engine.result_file import ResultFile
from sanarestore.engine.stages import Stages
from sanarestore.engine.tiles import Tiles, keep_pages
from sanarestore.images.arrays import Array
from sanarestore.model.loading import LatentPath, RestorationModel, load_model
from sanarestore.options import LARGEST_SCALE, RestoreOptions


class Restorer:
    """A model on a device, ready for any number of images.

    >>> restorer = Restorer(prompt="remove noise")
    >>> restorer(np.zeros((16, 24, 3), np.uint8)).shape
    (16, 24, 3)
    """

    @overload
    def __init__(
        self, options: RestoreOptions = ..., *, device: str = ..., model: RestorationModel | None = ...
    ) -> None: ...
    @overload
    def __init__(self, *, prompt: str | None = ..., device: str = ..., **keywords: Unpack[Keywords]) -> None: ...
    def __init__(
        self,
        options: RestoreOptions | None = None,
        *,
        device: str = "auto",
        model: RestorationModel | str | None = None,
        **keywords: Any,
    ) -> None:
        """Load the model of the options onto a device: cpu, cuda, cuda:1, mps, xpu, or auto.

        Options are a `RestoreOptions`, or its fields as keywords. `model` may be a model that is loaded already, such
        as another restorer's. UsageError for options that are wrong, WeightsError if weights are missing.
        """
        named = None if isinstance(model, RestorationModel) else model
        loaded = model if isinstance(model, RestorationModel) else None
        if options is not None:
            if keywords or named is not None:
                raise TypeError("options are given as one RestoreOptions or as keywords, and not as both")
            self._load(options, device, loaded)
            return
        with keywords_named(OF_ONE_IMAGE):
            self._load(RestoreOptions(model=named, **keywords), device, loaded)

    def _load(self, options: RestoreOptions, device: str, loaded: RestorationModel | None) -> None:
        """Load the model, or take one that is loaded, and prepare it for the prompt."""
        self.options = options
        self.device = pick_device(str(device))
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        keep_pages(self.device)
        exactly_float32(self.device)
        dtype = pick_dtype(options.dtype, self.device)
        given = loaded or load_model(options.model, options.adapter, dtype=dtype, autoencoder=options.autoencoder)
        prompts = given.prompts
        prompt = options.prompt if options.prompt is not None else str(given.defaults["prompt"])
        self.request = prompts.request(prompt)
        """Request of the prompt."""
        wording = prompts.wording(prompt, self.request)
        self.model = given.serving(wording)
        """The model that restores under this prompt, on the CPU; other restorers may share it."""
        self.judge = judge_of(options, self.request)
        """The judge of candidates; None if there is only one."""
        self.candidates: tuple[Candidate, ...] = ()
        """The candidates for the last image, with their scores; empty if there was only one."""
        # All wordings at once, so that a large encoder is loaded at most once.
        prompts.fetch([wording, ""] if options.guidance != 1 else [wording])
        is_used = is_generated(options, self.model)
        placed = placement(self.model, options, wording, device=self.device, dtype=dtype, is_generated=is_used)
        notes = (*_notes(given, options, prompt, wording, self.request), *([placed.note] if placed.note else []))
        self.prompt_note = "; ".join(notes) or None
        """A note for every photograph on prompt, steps and memory; None for no note."""
        self._tiles = Tiles(self.device, placed.tile, whole=options.tiling == "off")
        # Casting is in place, and others may use a given model at another precision.
        shared = loaded is not None
        self._generation = None
        if is_used:
            self._generation = new_generation(
                self.model, placed.applied(options), prompt=wording, tiles=self._tiles, dtype=dtype, shared=shared
            )
        self._refinement = Refinement(
            self.model, prompts.pooled(wording)[None], self.request, fidelity=options.fidelity, tiles=self._tiles,
            dtype=dtype, shared=shared, in_int8=options.dtype == "int8",
        )  # fmt: skip
        self._stages = Stages(options, self._generation, self._refinement)

    @overload
    def __call__(self, image: str | PathLike[str] | images.Image, **chosen: Unpack[CallKeywords]) -> images.Image: ...
    @overload
    def __call__(self, image: Array, **chosen: Unpack[CallKeywords]) -> Array: ...
    @overload
    def __call__(self, image: Pillow.Image, **chosen: Unpack[CallKeywords]) -> Pillow.Image: ...
    @overload
    def __call__(self, image: Tensor, **chosen: Unpack[CallKeywords]) -> Tensor: ...
    def __call__(
        self,
        image: Any,
        *,
        output: str | PathLike[str] | None = None,
        overwrite: bool = False,
        accept_damaged: bool = False,
        progress: Callable[[float], object] | None = None,
        **written: Unpack[WriteKeywords],
    ) -> Any:
        """Restore one image; see `sanarestore.restore`, which takes the same kinds of images."""
        with keywords_named(OF_ONE_IMAGE):
            given = opened(image, accept_damaged=accept_damaged)
            file = ResultFile.checked(output, given, overwrite=overwrite, **written)
            count = len(given.held)
            restored = [self._restored(each, _part(progress, number, count)) for number, each in enumerate(given.held)]
            if file is not None:
                restored[0] = file.write(restored[0], self.model, self.options)
        if not given.carries_notes:
            for note in dict.fromkeys(note for each in restored for note in each.notes):
                warnings.warn(note, stacklevel=2)
        return given.back(restored)

    def _restored(self, image: images.Image, progress: Callable[[float], object]) -> images.Image:
        """Restore one Image: same size (times scale), depth, format, alpha and metadata; input unchanged."""
        most = 0.0
        with closing(self.stages(image)) as steps:
            while True:
                try:
                    done, total = next(steps)
                except StopIteration as ended:
                    restored: images.Image = ended.value
                    break
                # Counting begins again when memory runs out, and a progress bar must not go back.
                most = max(most, done / max(total, done))
                progress(most)
        progress(1.0)
        notes = () if self.prompt_note is None else (self.prompt_note,)
        return replace(restored, notes=restored.notes + notes)

    def stages(self, image: images.Image) -> Generator[tuple[int, int], None, images.Image]:
        """Restore one image, yielding (steps done, total steps); the generator returns the restored image.

        The count restarts when memory runs out and smaller tiles are tried. Pages are restored one after the other.
        ImageError if pixels are not finite, before or after restoring.
        """
        pages = (replace(image, more_pages=()), *image.more_pages)
        restored: list[images.Image] = []
        self.candidates = ()
        for index, page in enumerate(pages):
            steps = self._page(page, index + 1)
            while True:
                try:
                    done, total = next(steps)
                except StopIteration as finished:
                    restored.append(finished.value)
                    break
                yield index * total + done, len(pages) * total
        return replace(restored[0], more_pages=tuple(restored[1:]))

    def _page(self, image: images.Image, number: int) -> Generator[tuple[int, int], None, images.Image]:
        """Restore page `number` of an image, yielding (steps done, total steps)."""
        check_finite(image.pixels_HWC)
        image = images.without_provenance(image)
        width, height = self.options.result_size(image.width, image.height)
        if max(width, height) >= max(image.width, image.height):
            return (yield from self._at_size(self._with_note(resized(image, width, height)), image, number))
        return resized((yield from self._at_size(image, image, number)), width, height)

    def _with_note(self, image: images.Image) -> images.Image:
        """The image with a note if it is smaller than `--long-side` even after enlarging."""
        longest, asked = max(image.width, image.height), self.options.long_side
        if asked is None or longest == asked:
            return image
        note = f"enlarged {LARGEST_SCALE:g} times, to {longest} instead of {asked} pixels: more is not supported"
        return replace(image, notes=(*image.notes, note))

    def _at_size(
        self, image: images.Image, given: images.Image, page: int
    ) -> Generator[tuple[int, int], None, images.Image]:
        """Restore an image at its size, yielding as `stages` does; `given` is the page before it was enlarged."""
        self._refinement.expert = None
        if self.changes_nothing:
            return image
        visible_HWC = visible(image)
        if self.judge is None:
            restored_HWC = yield from self._sampled(visible_HWC, None)
        else:
            photograph_HWC = visible_HWC if given is image else visible(given)
            seeds = range(self.options.seed, self.options.seed + self.options.candidates)
            restored_HWC, judged = yield from best_of(
                seeds, partial(self._sampled, visible_HWC), partial(judgement, self.judge, photograph_HWC),
                partial(self._stages.count, *visible_HWC.shape[:2]), page=page,
            )  # fmt: skip
            self.candidates += judged
        return replace(image, pixels_HWC=with_visible(image, visible_HWC, restored_HWC))

    def _sampled(
        self, visible_HWC: images.Pixels, draw: Draw | None
    ) -> Generator[tuple[int, int], None, images.Pixels]:
        """Restore the pixels once, all [H,W,C]; `draw` is one of several samples. ImageError if they are not finite."""
        degraded_CHW = host_tensor(visible_HWC)
        restored_HWC = np.empty((*visible_HWC.shape[:2], 3), dtype=np.float32)
        restored_CHW = torch.from_numpy(restored_HWC).permute(2, 0, 1)
        yield from self._stages(degraded_CHW, restored_CHW, draw)
        return finished(visible_HWC, restored_HWC, is_gray=is_gray(visible_HWC), strength=self.options.strength)

    @property
    def refinement(self) -> Refinement:
        """The last stage; restoring in strips uses it alone."""
        return self._refinement

    @property
    def tiles(self) -> Tiles:
        """The tile size in use."""
        return self._tiles

    @property
    def changes_nothing(self) -> bool:
        """Whether results have the values of their photographs, because strength or prompt ask for nothing."""
        return self.options.strength == 0 or self.request.removes == ()

    @property
    def arithmetic(self) -> str:
        """Arithmetic of the networks: float32, bfloat16 or int8."""
        return arithmetic(self.options.dtype, self.device)

    @property
    def tile(self) -> int:
        """Current tile side in pixels; smaller than asked for once memory ran out."""
        return self._tiles.size

    def tiles_for(self, image: images.Image, halvings: int) -> AbstractContextManager[None]:
        """Use tiles halved so many times inside the block, and the tile size of before if the work inside fails."""
        pages = (image, *image.more_pages)
        sizes = [self.options.result_size(page.width, page.height) for page in pages]
        longest = max(max(page.height, page.width, *size) for page, size in zip(pages, sizes, strict=True))
        return self._tiles.halved_for(longest, halvings)

    @property
    def expert(self) -> str | None:
        """Name of the expert with the largest share in the last photograph; None for the general refiner."""
        return self._refinement.expert

    @property
    def generation(self) -> Generation | None:
        """The stages of the latent path; None if it is not used."""
        return self._generation

    @property
    def latent(self) -> LatentPath | None:
        """The latent path as it runs, on the device and in its dtype; None if it is not used."""
        return self._generation.latent if self._generation else None

    def watch(self, callback: Watch) -> None:
        """Call `callback` from now on with the condition, latent and generated image of every image.

        Where tiles are restored independently, it is called for every tile.
        """
        if self._generation:
            self._generation.watch = callback


def _part(progress: Callable[[float], object] | None, number: int, count: int) -> Callable[[float], object]:
    """Progress of one of several images, as progress of them all."""
    if progress is None:
        return lambda _: None
    return lambda fraction: progress((number + fraction) / count)


def _notes(
    model: RestorationModel, options: RestoreOptions, prompt: str, wording: str, request: Request
) -> Iterator[str]:
    """Notes for the user on the prompt and the number of steps."""
    if not request.understood and wording != prompt.strip():
        yield f"the prompt '{prompt}' was not understood; the photograph was restored as without a prompt"
    if model.note:
        yield model.note
    if model.serving(wording) is not model:
        known = ", ".join(f"'{each}'" for each in sorted(model.trained_for or ())[:3])
        yield f"the adapter was trained for {known}: for this prompt the base was used, without the adapter"
    scale = model.defaults.get("scale")
    if scale and options.scale != scale and options.long_side is None:
        yield f"the model was trained on images enlarged {scale} times: the result may be worse without --scale {scale}"
    lowest, highest = model.defaults.get("steps_range") or (1, math.inf)
    steps = steps_of(options, model)
    if is_generated(options, model) and not lowest <= steps <= highest:
        trained = f"{lowest} to {highest} steps" if highest > lowest else f"{lowest} step{'s' if lowest > 1 else ''}"
        yield f"the adapter was trained for {trained}, not {steps}: the result may be worse"
