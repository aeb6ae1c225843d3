"""sanarestore restores photographs in batches.

>>> import sanarestore                                                                        # doctest: +SKIP
>>> for outcome in sanarestore.restore_files("shoot", output="restored", prompt="remove noise"):    # doctest: +SKIP
...     print(outcome.path, outcome.status, outcome.error)

`restore_files` does what the command does, in worker processes. `restore` restores one image in memory, and `Restorer`
any number of them with one model. All are imported when they are first used, so that ``sanarestore --help`` answers
at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sanarestore.engine.batch import restore_files as restore_files
    from sanarestore.engine.restorer import Restorer as Restorer
    from sanarestore.engine.restorer import restore as restore

__version__ = "0.1.0"

__all__ = ["Restorer", "restore", "restore_files"]

_PLACES = {"restore_files": "batch", "restore": "restorer", "Restorer": "restorer"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"sanarestore.engine.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
