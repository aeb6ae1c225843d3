"""Recipes: one line says how to degrade photographs; a plan is drawn from it for each pair.

    recipe      = alternative { "," alternative }      the variants of an image take the alternatives in turn
    alternative = term { "+" term }                    applied left to right
    term        = name [ ":" levels ]
    levels      = number { "/" number }                variants take them in turn
                | number "-" number                    drawn uniformly between the two

Names: `noise:SIGMA`, `poisson:C`, `camera:STRENGTH`, `photograph:STOPS` (the camera's whole chain, in stops above ISO
100), `grain:SIGMA` (film), `blotches:SIGMA` (of colour), `jpeg:QUALITY`, `jpeg-twice:QUALITY`, `webp:QUALITY`,
`blur:SIGMA`, `kernel:K`, `defocus:RADIUS`, `motion:LENGTH`, `lowres:FACTOR`, `lowlight:STOPS`, `colour:AMOUNT`,
`dust:DENSITY` (dust and scratches, in marks per megapixel), `clean`, and those that compose the others: `combined`
(one to three in random order, without light and colour), `combined-light` (the same with light or colour among them,
all named in the prompt), `selective` (two; the prompt names one, the target keeps the other) and `unneeded` (one; the
prompt names another, so the target is the input). A recipe may also be one of `PRESETS`.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sanarestore.degradations.draws import BOUNDS, DRAWS, POOL, POOL_OF_ALL, UNITS, WHOLE
from sanarestore.degradations.operations import ColourShift, LowLight, Operation
from sanarestore.degradations.photograph import Photograph
from sanarestore.degradations.requests import LIGHT_AND_COLOUR, Request
from sanarestore.degradations.wordings import word
from sanarestore.errors import UsageError
from sanarestore.images import Pixels

CONFUSABLE = ({"blur", "lowres"}, {"noise", "lowlight"}, {"lowlight", "colour"})
"""Pairs of kinds that are hard to tell apart in one image; `selective` and `unneeded` never combine them."""

CLEAN_ASKED = ("noise", "noise", "noise", "jpeg", "jpeg", "blur", "lowres")
"""Kinds that prompts for clean images name, repeated in proportion to how often people might ask for them."""

UNREAD = {"dust": "remove dust and scratches"}
"""Kinds that prompt readers do not know -> the prompt of all pairs with that kind."""

PRESETS = {
    "noise": "noise:10/15/25/35/50",
    "jpeg": "jpeg:15/25/40",
    "blur": "kernel:3/5/7/9",
    "lowres": "lowres:2/3/4",
    "poisson": "poisson:1/2/4/8",
    "camera": "camera:10/30/100",
    "photograph": "photograph:7-12",
    "grain": "grain:6/12/20",
    "messenger": "lowres:1.5-3+jpeg:30-70",
    "lowlight": "lowlight:1/2/3",
    "colour": "colour:0.2",
    "dust": "dust:100-1000",
    "everything": "noise:10/15/25/35/50,jpeg:15/25/40,kernel:3/5/7/9,lowres:2/3/4,combined,photograph:5-12,"
    "lowlight:1-3,selective",
}
"""Named recipes; `everything` is meant for 5 to 8 variants an image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One pair with everything drawn: the operations applied, those to undo, and the prompt."""

    operations: tuple[Operation, ...]
    removed: tuple[bool, ...]
    """For each operation, whether the restoration should undo it."""
    prompt: str
    """The request in words."""
    request: Request
    """The request that the prompt makes."""
    label: str
    """The recipe of this pair alone, as in `noise:25+jpeg:20`."""

    def degraded(self, clean_HWC: Pixels) -> Pixels:
        """The input of the pair."""
        return _apply(self.operations, clean_HWC)

    def target(self, clean_HWC: Pixels) -> Pixels:
        """The wanted output: only the operations kept, with identical draws."""
        return _apply(self.kept, clean_HWC)

    def degraded_on_average(self, overview_HWC: Pixels) -> Pixels:
        """Means of the input over large areas, from those of the clean image."""
        return _apply_on_average(self.operations, overview_HWC)

    def target_on_average(self, overview_HWC: Pixels) -> Pixels:
        """Means of the wanted output over large areas, from those of the clean image."""
        return _apply_on_average(self.kept, overview_HWC)

    @property
    def _never_undone(self) -> tuple[type[Photograph | LowLight | ColourShift], ...]:
        """Types of operations that are replaced by their noise-free form instead of being removed."""
        return (Photograph, LowLight, ColourShift) if self.request.removes is None else (Photograph,)

    @property
    def kept(self) -> tuple[Operation, ...]:
        """Operations that the target carries: a photograph loses only its noise and JPEG; if the prompt names no kind,
        changes of light and colour lose only their noise."""
        kept: list[Operation] = []
        for operation, removed in zip(self.operations, self.removed, strict=True):
            if not removed:
                kept.append(operation)
            elif isinstance(operation, self._never_undone):
                kept.append(operation.without_noise())
        return tuple(kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A name and its levels."""

    name: str
    levels: tuple[float, ...] = ()
    """Levels taken in turn; empty for names without a level."""
    spans: bool = False
    """Whether the two levels are the ends of a range."""

    def level(self, rng: np.random.Generator, turn: int) -> float:
        """The level for this turn."""
        if self.spans:
            low, high = self.levels
            return float(rng.uniform(low, high))
        return self.levels[turn % len(self.levels)]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A parsed recipe, from which `draw` makes plans."""

    alternatives: tuple[tuple[Term, ...], ...]

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """Parse a preset's name or a recipe line; UsageError names the wrong word and the known ones."""
        line = ",".join(PRESETS.get(part.strip().lower(), part) for part in text.split(","))
        return cls(tuple(_alternative(part) for part in line.split(",")))

    def draw(self, rng: np.random.Generator, turn: int) -> Plan:
        """The plan of variant number `turn`: alternatives in turn, and within each its levels in turn."""
        count = len(self.alternatives)
        terms, inner = self.alternatives[turn % count], turn // count
        if len(terms) == 1 and terms[0].name in COMPOSED:
            return COMPOSED[terms[0].name](rng)
        return _plain([(term.name, term.level(rng, inner)) for term in terms], rng)


def stream(*keys: str | int) -> np.random.Generator:
    """A random stream named by its keys: the same keys give the same draws, in any order and process."""
    digest = hashlib.sha256("\0".join(str(key) for key in keys).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def _apply(operations: tuple[Operation, ...], image_HWC: Pixels) -> Pixels:
    for operation in operations:
        image_HWC = operation(image_HWC)
    return image_HWC


def _apply_on_average(operations: tuple[Operation, ...], overview_HWC: Pixels) -> Pixels:
    for operation in operations:
        overview_HWC = operation.on_average(overview_HWC)
    return overview_HWC


def _plain(drawn: list[tuple[str, float]], rng: np.random.Generator, general: float = 0.5) -> Plan:
    """Plan to undo everything; a share `general` of the prompts names nothing, the others name all kinds."""
    operations = tuple(DRAWS[name](level, rng) for name, level in drawn)
    named = tuple(dict.fromkeys(operation.kind for operation in operations))
    unread = [UNREAD[kind] for kind in named if kind in UNREAD]
    asked = () if unread or rng.random() < general else named
    return Plan(
        operations=operations,
        removed=(True,) * len(operations),
        # Prompt readers do not know this kind: all its pairs share one prompt, which a model recognizes by its text.
        prompt=unread[0] if unread else word(rng, asked),
        request=Request(understood=False) if unread else Request.of(*asked),
        label="+".join(_label(name, level) for name, level in drawn),
    )


def _combined(rng: np.random.Generator) -> Plan:
    """Plan one to three steps of `POOL_OF_ALL`, without light and colour."""
    pool = [line for line in POOL_OF_ALL if _term(line).name not in LIGHT_AND_COLOUR]
    return _plain(_some(rng, pool, int(rng.integers(1, 4))), rng, general=0.7)


def _combined_light(rng: np.random.Generator) -> Plan:
    """Plan one to three steps, light or colour among them, all named: unprompted, light and colour would stay."""
    while True:
        drawn = _some(rng, POOL_OF_ALL, int(rng.integers(1, 4)))
        if {name for name, _ in drawn} & set(LIGHT_AND_COLOUR):
            return _plain(drawn, rng, general=0.0)


def _selective(rng: np.random.Generator) -> Plan:
    """Plan two steps and name one; noise that stays is the same in input and target."""
    while True:
        drawn = _some(rng, POOL, 2)
        operations = tuple(DRAWS[name](level, rng) for name, level in drawn)
        kinds = {operation.kind for operation in operations}
        if len(kinds) == 2 and kinds not in CONFUSABLE:
            break
    named = int(rng.integers(2))
    return Plan(
        operations=operations,
        removed=(named == 0, named == 1),
        prompt=word(rng, (operations[named].kind,), kept=operations[1 - named].kind),
        request=Request.of(operations[named].kind),
        label="+".join(_label(name, level) + ("" if i == named else "!") for i, (name, level) in enumerate(drawn)),
    )


def _unneeded(rng: np.random.Generator) -> Plan:
    """Plan one step and name another: the right result is the input."""
    while True:
        (name, level), (other, other_level) = _some(rng, POOL, 2)
        applied, absent = DRAWS[name](level, rng), DRAWS[other](other_level, rng)
        if applied.kind != absent.kind and {applied.kind, absent.kind} not in CONFUSABLE:
            break
    return Plan(
        operations=(applied,), removed=(False,), prompt=word(rng, (absent.kind,)), request=Request.of(absent.kind),
        label=_label(name, level) + "!",
    )  # fmt: skip


def _clean(rng: np.random.Generator) -> Plan:
    """Plan no step, whatever the prompt: the right result is the input."""
    asked = () if rng.random() < 0.5 else (CLEAN_ASKED[int(rng.integers(len(CLEAN_ASKED)))],)
    return Plan(operations=(), removed=(), prompt=word(rng, asked), request=Request.of(*asked), label="clean")


COMPOSED: dict[str, Callable[[np.random.Generator], Plan]] = {
    "clean": _clean,
    "combined": _combined,
    "combined-light": _combined_light,
    "selective": _selective,
    "unneeded": _unneeded,
}


def _some(rng: np.random.Generator, pool: Sequence[str], count: int) -> list[tuple[str, float]]:
    """Draw names and levels of `count` steps from a pool, in random order."""
    terms = [_term(pool[int(index)]) for index in rng.permutation(len(pool))[:count]]
    return [(term.name, term.level(rng, 0)) for term in terms]


def _label(name: str, level: float) -> str:
    """Name and level of a step; the level as used, to four digits."""
    return f"{name}:{round(level) if name in WHOLE else level:.4g}"


def _alternative(text: str) -> tuple[Term, ...]:
    terms = tuple(_term(part) for part in text.split("+"))
    composed = [term.name for term in terms if term.name in COMPOSED]
    if composed and len(terms) > 1:
        raise UsageError(
            f"'{text.strip()}' adds to '{composed[0]}', which is a whole recipe",
            where="--recipe",
            next_step=f"Let {composed[0]} stand alone between commas.",
        )
    return terms


def _term(text: str) -> Term:
    match = re.fullmatch(r"([a-z]+(?:-[a-z]+)?)(?::([\d.]+(?:/[\d.]+)*|[\d.]+-[\d.]+))?", text.strip().lower())
    name, levels = match.groups() if match else (text.strip(), None)
    if match and name in COMPOSED and levels is None:
        return Term(name=name)
    if match and name in DRAWS and levels is None:
        raise UsageError(
            f"'{name}' needs a level here", where="--recipe",
            next_step=f"Write {name}:LEVEL, in {UNITS[name]}; without one, {name} stands alone between commas."
            if name in PRESETS else f"Write {name}:LEVEL, in {UNITS[name]}.",
        )  # fmt: skip
    if not match or name not in DRAWS or levels is None:
        raise UsageError(
            f"'{text.strip()}' is not a step of a recipe",
            where="--recipe",
            next_step=f"Steps are NAME:LEVEL with {', '.join(DRAWS)}, or {', '.join(COMPOSED)}; "
            f"recipes with a name are {', '.join(PRESETS)}.",
        )
    try:
        numbers = tuple(float(number) for number in re.split("[/-]", levels))
    except ValueError:
        numbers = ()
    low, high = BOUNDS[name]
    if not numbers or not all(low <= number <= high for number in numbers):
        raise UsageError(
            f"'{text.strip()}' needs levels from {low} to {high}", where="--recipe",
            next_step=f"Levels of {name} are {UNITS[name]}.",
        )  # fmt: skip
    spans = "-" in levels
    if spans and numbers[0] > numbers[1]:
        raise UsageError(
            f"'{text.strip()}' is a range that ends before it begins", where="--recipe",
            next_step="Write the lower level first.",
        )  # fmt: skip
    return Term(name=name, levels=numbers, spans=spans)
