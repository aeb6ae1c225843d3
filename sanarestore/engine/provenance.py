"""What a result says of how it was made."""

from dataclasses import fields

import sanarestore
from sanarestore import images, weights
from sanarestore.model.loading import RestorationModel
from sanarestore.options import BLENDING, RestoreOptions

_BY_HASH = frozenset(("model", "adapter"))
"""Options that the hash of the weights stands for; their values may be paths of the user's machine."""
_SAME_RESULT = frozenset(("threads", "tile", "tiling", "overlap"))


def provenance(model: RestorationModel, options: RestoreOptions, sha256: str) -> images.Provenance:
    """The provenance of the result of an input with this hash: the same on every machine."""
    left_out = _BY_HASH | _SAME_RESULT
    if options.tiling in BLENDING:
        left_out -= {"tile", "tiling", "overlap"}
    named = ((each.name, getattr(options, each.name)) for each in fields(options) if each.name not in left_out)
    return images.Provenance(
        version=sanarestore.__version__,
        model=model.name,
        weights=model.fingerprint,
        licence=weights.licence(model.folder),
        options=tuple((name, str(value)) for name, value in named if value is not None),
        input=sha256,
    )
