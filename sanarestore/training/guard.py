"""A guard on the loss: it notices when training breaks down, before the weights of many steps are lost."""

import math

FAST, SLOW = 0.9, 0.99
"""Decay per step of the two averages of the loss that are compared: about 10 and 100 steps."""

SPIKE = 6.0
"""Standard deviations of the loss by which the fast average may exceed the slow one."""

OUTLIER = 3.0
"""Standard deviations beyond which a loss counts as if it were that far away."""

LEARNING = 200
"""Steps before spikes are looked for: early losses change too fast for averages to mean anything."""

STOP_DIVERGED = "the loss is not a number"


class LossGuard:
    """Averages of the loss, and whether the latest one is a sign of divergence."""

    def __init__(self) -> None:
        self._steps = 0
        self._fast = self._slow = self._spread = 0.0

    def fault(self, loss: float, norm: float) -> str | None:
        """Return the fault of a step with this loss and gradient norm; None if there is none, and the loss is then
        counted.

        A single hard batch is no fault: the average of some ten steps must rise.
        """
        if not math.isfinite(loss) or not math.isfinite(norm):
            return STOP_DIVERGED
        fast = FAST * self._fast + (1 - FAST) * loss if self._steps else loss
        if self._steps >= LEARNING and fast - self._slow > SPIKE * math.sqrt(self._spread):
            return f"the loss rose from {self._slow:.4g} to {fast:.4g}"
        self._fast = fast
        away = loss - self._slow if self._steps else 0.0
        if self._steps >= LEARNING:
            # What is far away counts for less: otherwise the first losses of a breakdown would hide it.
            farthest = OUTLIER * math.sqrt(self._spread)
            away = min(max(away, -farthest), farthest)
        self._slow = self._slow + (1 - SLOW) * away if self._steps else loss
        self._spread = SLOW * self._spread + (1 - SLOW) * away * away
        self._steps += 1
        return None

    def state(self) -> list[float]:
        """Plain numbers from which `load` restores the guard."""
        return [self._steps, self._fast, self._slow, self._spread]

    def load(self, state: list[float]) -> None:
        """Restore what `state` returned."""
        steps, self._fast, self._slow, self._spread = state
        self._steps = int(steps)
