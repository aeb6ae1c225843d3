"""How people ask for a restoration: many wordings per kind of degradation, some kept back for measuring.

The training wordings are a small grammar: frames filled with nouns, looks or wishes, and phrases. `HELD_OUT` is used
for measuring only: no sentence and no frame of it is of the grammar, a test holds that.
"""

import numpy as np

DEFAULT_PROMPT = "Restore this image"
"""What is asked for when nothing is said: take away whatever is wrong."""

KINDS = ("noise", "jpeg", "blur", "lowres", "lowlight", "colour")
"""What a prompt can name."""

VERBS = (
    "remove", "reduce", "get rid of", "take out", "fix", "clean up", "clean", "eliminate", "correct", "repair",
    "undo", "suppress", "erase", "delete", "drop", "lessen", "lower", "minimise", "minimize", "cut down", "tone down",
    "wipe off", "clear", "clear up", "deal with", "handle", "treat", "filter", "filter out", "tackle", "tame",
    "address", "cure", "ditch", "lose", "improve", "mend", "sort out", "tidy up", "scrub", "diminish", "counter",
    "mitigate", "work on",
)  # fmt: skip

FRAMES = (
    *(f"{verb} {{noun}}" for verb in VERBS), *(f"{verb} the {{noun}}" for verb in VERBS), "take the {noun} away",
    "no more {noun}", "no {noun}", "without the {noun}", "without {noun}", "less {noun}", "too much {noun}",
    "there is {noun} in this photo", "I see {noun} here", "look at all that {noun}", "so much {noun}",
    "the picture suffers from {noun}", "this image has {noun}", "it has {noun}",
    "restore this image, remove the {noun}", "remove all {noun} from the photograph", "remove any {noun}",
    "I want the {noun} gone", "only remove the {noun}", "{noun}", "{noun} removal", "{noun} reduction",
    "the {noun} has to go", "the {noun} must be removed", "I do not like the {noun}", "I hate this {noun}",
    "the {noun} is ugly", "spoiled by {noun}", "full of {noun}", "what about the {noun}", "make the {noun} disappear",
    "make the {noun} vanish", "help with the {noun}", "a version without {noun}", "free it of {noun}",
    "free of {noun}", "nothing but the {noun} should change",
)  # fmt: skip
"""Sentences about what is to go; `{noun}` is one of NOUNS."""

LOOKS = (
    "{look}", "too {look}", "it is {look}", "it is too {look}", "it looks {look}", "a bit {look}", "very {look}",
    "the photo is {look}", "the image is quite {look}", "the picture looks {look}", "my photos are {look}",
    "everything here is {look}", "this one is so {look}", "fix this {look} picture", "a {look} photograph, repair it",
    "restore my {look} image", "why is it so {look}", "it turned out {look}", "it should not be {look}",
    "make it less {look}", "less {look}", "not so {look}",
)  # fmt: skip
"""Sentences about how a picture looks; `{look}` is one of ADJECTIVES."""

WISHES = (
    "{goal}", "I want {goal}", "I would like {goal}", "we need {goal}", "it needs {goal}", "make it {goal}",
    "add {goal}", "aim for {goal}", "{goal}, that is all", "try for {goal}", "more {goal}", "restore {goal}",
    "recover {goal}", "let it have {goal}", "it deserves {goal}", "I am missing {goal}",
)  # fmt: skip
"""Sentences about what is wanted; `{goal}` is one of GOALS."""

NOUNS = {
    "noise": (
        "noise", "image noise", "grain", "film grain", "sensor noise", "ISO noise", "high ISO noise", "colour noise",
        "color noise", "chroma noise", "luminance noise", "speckle", "speckles", "graininess", "gaussian noise",
        "shot noise", "noisy texture", "static",
    ),
    "jpeg": (
        "JPEG artefacts", "JPEG artifacts", "jpeg", "compression artefacts", "compression artifacts", "compression",
        "JPEG compression", "blocking", "blocks", "blockiness", "block artefacts", "ringing", "mosquito noise",
        "compression damage", "blocky squares", "JPEG blocks", "compression noise",
    ),
    "blur": (
        "blur", "blurriness", "softness", "out of focus blur", "defocus", "lens blur", "gaussian blur",
        "unsharpness", "soft focus", "camera blur", "missed focus",
    ),
    "lowres": (
        "low resolution", "pixelation", "lack of resolution", "upscaling artefacts", "upscaling artifacts",
        "missing detail", "lost detail", "low res look", "resampling blur", "small size",
    ),
    "lowlight": (
        "darkness", "underexposure", "low light", "dim light", "dark exposure", "insufficient light",
        "dark shadows", "night look", "low exposure",
    ),
    "colour": (
        "colour cast", "color cast", "tint", "wrong colours", "wrong colors", "white balance", "colour shift",
        "color shift", "wrong contrast", "bad colours", "bad colors",
    ),
}  # fmt: skip

ADJECTIVES = {
    "noise": ("noisy", "grainy", "speckled", "gritty", "full of grain", "rough with noise"),
    "jpeg": ("blocky", "compressed", "over-compressed", "badly compressed", "full of blocks", "full of artefacts"),
    "blur": ("blurry", "blurred", "out of focus", "unfocused", "soft", "unsharp", "fuzzy", "not sharp"),
    "lowres": ("low resolution", "low-res", "pixelated", "small", "lacking in detail", "low in resolution"),
    "lowlight": ("dark", "underexposed", "dim", "gloomy", "badly lit", "murky", "nearly black"),
    "colour": ("off-colour", "tinted", "miscoloured", "too yellow", "too blue", "wrong in colour", "discoloured"),
}  # fmt: skip

GOALS = {
    "noise": ("a clean image", "a noise-free picture", "clean shadows", "a smooth, grainless look"),
    "jpeg": ("a picture without blocks", "clean edges without ringing", "an uncompressed look"),
    "blur": ("sharpness", "sharp edges", "a crisp picture", "a sharp photo", "better focus", "crisp details"),
    "lowres": ("resolution", "a higher resolution", "a high resolution photo", "fine detail", "a larger picture"),
    "lowlight": ("light", "brightness", "a brighter picture", "a proper exposure", "brighter shadows", "daylight"),
    "colour": ("neutral colours", "natural colors", "correct colours", "a neutral white balance", "true colours"),
}  # fmt: skip

PHRASES = {
    "noise": (
        "denoise", "denoise this photo", "denoise the image", "denoising", "de-noise", "noise reduction",
        "make it less noisy", "less grainy please", "clean up this noisy photo", "it is noisy", "so grainy",
        "smooth away the grain", "noise removal", "make a clean low ISO version",
    ),
    "jpeg": (
        "deblock", "deblocking", "dejpeg", "undo the JPEG compression", "repair the compressed photo",
        "it was saved at low quality", "artefact removal", "artifact removal", "deartefact", "remove artefacts",
        "remove artifacts", "decompress this badly compressed picture", "blocky picture",
    ),
    "blur": (
        "deblur", "deblur this photo", "deblurring", "unblur", "unblur the image", "sharpen", "sharpen it",
        "sharpen this photo", "make it sharp", "make it sharper", "bring it into focus", "refocus", "it is blurry",
        "fix the blurry picture", "crisp and sharp please", "focus the photo",
    ),
    "lowres": (
        "upscale", "upscale this photo", "upscaling", "super-resolution", "super resolution", "superresolve",
        "increase the resolution", "enhance the resolution", "make it high resolution", "higher resolution",
        "enlarge with detail", "add detail", "it was upscaled from a small picture", "raise the resolution",
        "low-resolution picture, enhance it",
    ),
    "lowlight": (
        "brighten", "brighten this photo", "brighten the image", "make it brighter", "lighten", "lighten it up",
        "too dark", "it is too dark", "underexposed", "fix the exposure", "raise the exposure",
        "low-light enhancement", "enhance the low light photo", "recover the dark photo", "night photo, brighten it",
    ),
    "colour": (
        "fix the colours", "fix the colors", "correct the colours", "correct the colors", "colour correction",
        "color correction", "fix the white balance", "correct the white balance", "neutral colours",
        "restore the colours", "restore the colors", "fix the contrast", "fix brightness and contrast",
        "adjust the colours", "true colors",
    ),
}  # fmt: skip

GENERAL = (
    DEFAULT_PROMPT, DEFAULT_PROMPT, DEFAULT_PROMPT, "restore", "restore this photo", "restore the photograph",
    "restore it", "enhance", "enhance this image", "improve the quality", "fix this picture", "fix everything",
    "clean it up", "make it look good", "repair this photograph", "remove all degradations", "remove every defect",
    "best quality", "high quality photo", "full restoration", "make this image perfect", "undo all damage",
    "improve this photo", "a clean, sharp photograph",
)  # fmt: skip

ENDINGS = (
    *("",) * 8, " please", " from this photo", " in this picture", " of this image", " for me", " now", ", thanks",
    " if possible", " as well as you can", " in my holiday photo", " of this portrait", " in the old scan", " gently",
    " for a print", " a little", " completely", ", nothing else", " without changing the rest",
)  # fmt: skip
OPENINGS = (
    *("",) * 8, "please ", "can you ", "just ", "I need you to ", "kindly ", "could you ", "would you ", "try to ",
    "hello, ", "is it possible to ", "I want to ", "how do I ", "help me ", "let us ", "first of all ", "only ", "now ",
)  # fmt: skip
KEEPING = (", keep the {noun}", " but leave the {noun}", ", do not touch the {noun}", " and keep the {noun}")

STRANGE = ("{1} the {0}", "{1} {0}", "{1} {2} {0}", "{1} the {0} {2}", "{1} {2} the {0} {3}", "{0} {1} {2}")
"""Frames of word_strangely: what is named, among words without meaning."""

SYLLABLES = (
    "ba", "ber", "ble", "cand", "ch", "co", "cu", "dar", "den", "di", "ed", "el", "er", "fa", "fen", "fo", "gle", "go",
    "ha", "hin", "ing", "is", "ja", "kin", "ko", "la", "len", "lo", "ly", "ma", "mer", "mi", "na", "ni", "no", "ol",
    "pa", "per", "po", "qua", "ra", "re", "ro", "sa", "ser", "sti", "ta", "ter", "th", "to", "un", "va", "ver", "wi",
    "wo", "xa", "ye", "za",
)  # fmt: skip

HELD_OUT = {
    "noise": (
        "take the grain out", "could the noise be removed?", "this shot is really grainy", "kill the sensor noise",
        "my picture came out noisy at high ISO", "strip away speckle",
    ),
    "jpeg": (
        "take the JPEG artifacts out", "could the compression artefacts be removed?", "this shot is really blocky",
        "kill the blocking", "my picture was compressed badly", "strip away JPEG blocks",
    ),
    "blur": (
        "take the blur out", "could the softness be removed?", "this shot is really blurry", "kill the lens blur",
        "my picture came out unsharp", "get a sharp focus",
    ),
    "lowres": (
        "take the pixelation out", "could the resolution be increased?", "this shot is really low resolution",
        "upscale my picture", "give me a high-resolution version", "bring back missing detail",
    ),
    "lowlight": (
        "lift the darkness", "could the exposure be raised?", "this shot is really dark",
        "my picture came out underexposed", "make the night photo brighter", "brighten up the shadows",
    ),
    "colour": (
        "take the colour cast out", "could the white balance be corrected?", "the colours of this shot are wrong",
        "kill the tint", "my picture came out with bad colours", "strip away the color shift",
    ),
}  # fmt: skip
"""Wordings never trained on, for measuring whether prompts are understood rather than remembered."""


PLAIN = {
    "noise": "remove the noise",
    "jpeg": "remove the JPEG artefacts",
    "blur": "deblur",
    "lowres": "increase the resolution",
    "lowlight": "brighten this photo",
    "colour": "fix the colours",
}
"""One wording per kind, of the training grammar, that the others shall mean the same as."""


def word(rng: np.random.Generator, removed: tuple[str, ...], kept: str | None = None) -> str:
    """A training prompt that asks to remove these kinds (none: a general prompt), perhaps naming one to keep."""
    if not removed:
        return _dress(rng, _pick(rng, GENERAL))
    sentence = _joined(rng, [_request(rng, kind) for kind in removed])
    if kept is not None and rng.random() < 0.2:
        sentence += _pick(rng, KEEPING).format(noun=_pick(rng, NOUNS[kept]))
    return _dress(rng, sentence)


def word_strangely(rng: np.random.Generator, removed: tuple[str, ...], kept: str | None = None) -> str:
    """As `word`, but mostly with what no grammar foresees: unknown verbs, stray words, slips of the finger."""
    if not removed or rng.random() < 0.5:
        sentence = word(rng, removed, kept)
    else:
        sentence = _dress(rng, _joined(rng, [_unheard_of(rng, kind) for kind in removed]))
    if sentence.strip() == DEFAULT_PROMPT:
        return sentence
    if rng.random() < 0.3:
        sentence = _with_stray_words(rng, sentence)
    return _mistyped(rng, sentence) if rng.random() < 0.2 else sentence


def plain(removed: tuple[str, ...]) -> str:
    """The plain wording of a request for these kinds, by which `word`'s are to be understood."""
    wordings = [PLAIN[kind] for kind in removed] or [DEFAULT_PROMPT]
    return " and ".join([", ".join(wordings[:-1]), wordings[-1]] if wordings[1:] else wordings)


def requests(kind: str) -> list[str]:
    """Every request for one kind that the grammar holds, before openings and endings."""
    return [
        *(frame.format(noun=noun) for frame in FRAMES for noun in NOUNS[kind]),
        *(frame.format(look=look) for frame in LOOKS for look in ADJECTIVES[kind]),
        *(frame.format(goal=goal) for frame in WISHES for goal in GOALS[kind]),
        *PHRASES[kind],
    ]


def vocabulary() -> list[str]:
    """Every sentence of the training grammar, for training a tokenizer."""
    kept = [keeping.format(noun=noun) for keeping in KEEPING for kind in KINDS for noun in NOUNS[kind]]
    told = [request for kind in KINDS for request in requests(kind)]
    every = [*told, *GENERAL, *kept, *OPENINGS, *ENDINGS]
    return [form(text) for text in every for form in (str, str.capitalize, str.lower)]


def _request(rng: np.random.Generator, kind: str) -> str:
    family = rng.random()
    if family < 0.35:
        return _pick(rng, PHRASES[kind])
    if family < 0.5:
        return _pick(rng, LOOKS).format(look=_pick(rng, ADJECTIVES[kind]))
    if family < 0.6:
        return _pick(rng, WISHES).format(goal=_pick(rng, GOALS[kind]))
    return _pick(rng, FRAMES).format(noun=_pick(rng, NOUNS[kind]))


def _unheard_of(rng: np.random.Generator, kind: str) -> str:
    """A frame whose words say nothing: what is named must be enough."""
    named = _pick(rng, (*NOUNS[kind], *ADJECTIVES[kind]))
    return _pick(rng, STRANGE).format(named, _stray(rng), _stray(rng), _stray(rng))


def _with_stray_words(rng: np.random.Generator, sentence: str) -> str:
    words = sentence.split()
    for _ in range(int(rng.integers(1, 3))):
        words.insert(int(rng.integers(len(words) + 1)), _stray(rng))
    return " ".join(words)


def _stray(rng: np.random.Generator) -> str:
    """A word without meaning."""
    return "".join(_pick(rng, SYLLABLES) for _ in range(int(rng.integers(1, 4))))


def _mistyped(rng: np.random.Generator, sentence: str) -> str:
    """One letter left out, doubled, or exchanged with the next."""
    place = int(rng.integers(len(sentence)))
    before, here, after = sentence[:place], sentence[place : place + 2], sentence[place + 2 :]
    return before + _pick(rng, (here[1:], here[:1] + here, here[::-1])) + after


def _joined(rng: np.random.Generator, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + _pick(rng, (" and ", ", then ")) + parts[-1]


def _dress(rng: np.random.Generator, sentence: str) -> str:
    """Openings, endings, case and full stops, as people type them."""
    if sentence == DEFAULT_PROMPT and rng.random() < 0.5:
        return sentence
    sentence = _pick(rng, OPENINGS) + sentence + _pick(rng, ENDINGS)
    cased = (sentence, sentence.capitalize(), sentence.lower(), sentence[:1].upper() + sentence[1:])
    return _pick(rng, cased) + _pick(rng, ("", "", "", ".", "!"))


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
