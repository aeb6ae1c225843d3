"""sanarestore restores photographs in batches.

>>> import numpy, sanarestore
>>> photograph = numpy.zeros((16, 24, 3), "uint8")
>>> sanarestore.restore(photograph, "remove noise").shape
(16, 24, 3)

`restore` restores one image in memory or one file, and `Restorer` any number of them with one model. `restore_files`
does what the command does, with folders, in worker processes, and `restore_clip` restores video. All are imported when
they are first used, so that ``sanarestore --help`` answers at once. docs/python.md has examples.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sanarestore import errors as errors
    from sanarestore import images as images
    from sanarestore.engine.many_files import restore_files as restore_files
    from sanarestore.engine.one_clip import restore_clip as restore_clip
    from sanarestore.engine.one_image import restore as restore
    from sanarestore.engine.restorer import Restorer as Restorer
    from sanarestore.options import RestoreOptions as RestoreOptions

__version__ = "0.1.0"

__all__ = ["RestoreOptions", "Restorer", "errors", "images", "restore", "restore_clip", "restore_files"]

_PLACES = {
    "restore_files": "engine.many_files", "restore": "engine.one_image", "restore_clip": "engine.one_clip",
    "Restorer": "engine.restorer", "RestoreOptions": "options",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name not in _PLACES:
        return import_module(f"sanarestore.{name}")
    return getattr(import_module(f"sanarestore.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
