"""Options of clips: videos and folders of frames."""

import hashlib
import json
import numbers
from dataclasses import dataclass

from sanarestore.errors import UsageError
from sanarestore.options.checks import check_numbers, check_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipOptions:
    """Options that apply only to clips."""

    temporal: float = 1.0
    """Strength of the filter over time: 1 averages frames where they agree, 0 restores every frame by itself."""
    codec: str | None = None
    """Codec of video: ffv1, av1, or an encoder of PyAV; None for the default of the output's suffix."""

    def __post_init__(self) -> None:
        check_texts(self, ("codec",))
        check_numbers(self, ("temporal",), numbers.Real)
        if not 0 <= self.temporal <= 1:
            raise UsageError(f"{self.temporal:g} is outside 0 to 1", where="--temporal")

    def fingerprint(self) -> str:
        """Hash of the options; the encoder that a codec stands for is hashed separately."""
        return hashlib.sha256(json.dumps({"temporal": self.temporal}).encode()).hexdigest()[:16]
