"""How people ask for a restoration: many wordings per kind of degradation, some kept back for measuring.

The training wordings are a small grammar (frames x nouns, plus phrases). `HELD_OUT` is used for measuring only:
none of its sentences can be produced by the grammar, a test holds that.
"""

import numpy as np

DEFAULT_PROMPT = "Restore this image"
"""What is asked for when nothing is said: take away whatever is wrong."""

KINDS = ("noise", "jpeg", "blur", "lowres", "lowlight", "colour")
"""What a prompt can name."""

FRAMES = (
    "remove {noun}", "remove the {noun}", "reduce the {noun}", "get rid of the {noun}", "take out the {noun}",
    "take the {noun} away", "fix the {noun}", "fix {noun}", "clean up the {noun}", "clean the {noun}",
    "eliminate the {noun}", "correct the {noun}", "repair the {noun}", "undo the {noun}", "suppress the {noun}",
    "no more {noun}", "without the {noun}", "less {noun}", "too much {noun}", "there is {noun} in this photo",
    "the picture suffers from {noun}", "this image has {noun}", "restore this image, remove the {noun}",
    "remove all {noun} from the photograph", "I want the {noun} gone", "only remove the {noun}", "{noun}",
)  # fmt: skip

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

ENDINGS = ("", "", "", "", " please", " from this photo", " in this picture", " of this image", " for me", " now")
OPENINGS = ("", "", "", "", "please ", "can you ", "just ", "I need you to ", "kindly ")
KEEPING = (", keep the {noun}", " but leave the {noun}", ", do not touch the {noun}", " and keep the {noun}")

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


def word(rng: np.random.Generator, removed: tuple[str, ...], kept: str | None = None) -> str:
    """A training prompt that asks to remove these kinds (none: a general prompt), perhaps naming one to keep."""
    if not removed:
        return _dress(rng, _pick(rng, GENERAL))
    parts = [_request(rng, kind) for kind in removed]
    sentence = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + _pick(rng, (" and ", ", then ")) + parts[-1]
    if kept is not None and rng.random() < 0.2:
        sentence += _pick(rng, KEEPING).format(noun=_pick(rng, NOUNS[kept]))
    return _dress(rng, sentence)


def vocabulary() -> list[str]:
    """Every frame, noun and phrase of the training grammar, for training a tokenizer."""
    nouns = [noun for kind in KINDS for noun in NOUNS[kind]]
    framed = [frame.format(noun=noun) for frame in FRAMES for noun in nouns]
    phrases = [phrase for kind in KINDS for phrase in PHRASES[kind]]
    kept = [keeping.format(noun=noun) for keeping in KEEPING for noun in nouns]
    plain = framed + phrases + list(GENERAL) + kept + [*OPENINGS, *ENDINGS]
    return [form(text) for text in plain for form in (str, str.capitalize, str.lower)]


def _request(rng: np.random.Generator, kind: str) -> str:
    if rng.random() < 0.4:
        return _pick(rng, PHRASES[kind])
    return _pick(rng, FRAMES).format(noun=_pick(rng, NOUNS[kind]))


def _dress(rng: np.random.Generator, sentence: str) -> str:
    """Openings, endings, case and full stops, as people type them."""
    if sentence == DEFAULT_PROMPT and rng.random() < 0.5:
        return sentence
    sentence = _pick(rng, OPENINGS) + sentence + _pick(rng, ENDINGS)
    cased = (sentence, sentence.capitalize(), sentence.lower(), sentence[:1].upper() + sentence[1:])
    return _pick(rng, cased) + _pick(rng, ("", "", "", ".", "!"))


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
