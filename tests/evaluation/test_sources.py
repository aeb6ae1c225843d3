"""What figures rest on is told once, and by task where it differs."""

from typing import Any

from sanarestore.evaluation.sources import sources


def row(method: str, level: str = "25", **fields: Any) -> dict[str, Any]:
    return {"task": "denoise", "level": level, "method": method, "protocol": "p/1", "conditions": "CPU", **fields}


def test_methods_that_were_run_alike_share_a_sentence() -> None:
    measured = [row("degraded"), row("a", prompt=""), row("b", prompt=""), row("a", "50", prompt=""), row("c")]
    assert sources(measured) == ["a, b: unprompted; CPU", "c: CPU", "Protocol: p/1"]


def test_a_method_with_several_prompts_is_named_with_its_tasks() -> None:
    measured = [
        row("a", prompt=""), row("a", "15", prompt=""), row("a", "50", prompt="deblur"), row("b", prompt=""),
        row("c", prompt_per_image=True, protocol="q/2"),
        {"published": True, "task": "denoise", "level": "25", "method": "D", "source": "E 1999", "psnr": 1.0},
    ]  # fmt: skip
    assert sources(measured) == [
        "a (denoise 25, denoise 15), b: unprompted; CPU", 'a (denoise 50): prompt "deblur"; CPU',
        "c: one prompt per image; CPU", "D: E 1999", "Protocol: p/1, q/2",
    ]  # fmt: skip
