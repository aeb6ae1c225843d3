"""What stands above and below a table: its title, where its figures come from, and figures that no column holds."""

from collections.abc import Iterable, Sequence

from sanarestore.evaluation.published import Published
from sanarestore.evaluation.rows import DEGRADED, Row, case_of


def title_of(rows: Sequence[Row]) -> str:
    """Name the set of rows, and count its images."""
    return f"{rows[0].dataset}, {rows[0].images} image{'s' * (rows[0].images > 1)}"


def sources(rows: Iterable[Row | Published]) -> list[str]:
    """Name the prompt, settings and machine of each method, the sources of published figures, and the protocols.

    A method that ran in several ways is listed with the tasks and levels of each.
    """
    ways: dict[str, dict[str, list[str]]] = {}  # fact -> method -> cases
    protocols: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Row):
            protocols[row.protocol] = None
        if row.method != DEGRADED:
            ways.setdefault(_fact(row), {}).setdefault(row.method, []).append(case_of(row))
    names = [name for methods in ways.values() for name in methods]
    sentences = []
    for fact, methods in ways.items():
        named = [f"{name} ({', '.join(cases)})" if names.count(name) > 1 else name for name, cases in methods.items()]
        sentences.append(f"{', '.join(named)}: {fact}")
    return [*sentences, f"Protocol: {', '.join(protocols)}"]


def _fact(row: Row | Published) -> str:
    if isinstance(row, Published):
        return row.source
    if row.prompt_per_image:
        return f"one prompt per image; {row.conditions}"
    if row.prompt is None:
        return row.conditions
    return f'prompt "{row.prompt}"; {row.conditions}' if row.prompt else f"unprompted; {row.conditions}"


def remarks(row: Row) -> list[str]:
    """Say what a row shows of harm, of prompts and of seeds, where these are measured."""
    sentences, case = [], f"{row.method}, {case_of(row)}"
    if row.worst_psnr is not None:
        lowest = f"{case}: lowest PSNR {row.worst_psnr:.2f} dB ({row.worst_image})"
        sentences.append(f"{lowest}; largest change {row.largest_change} of 255")
    if row.margin is not None:
        share = f"{row.right_beats_wrong:.1%} of pairs, by {row.margin:.2f} dB on average"
        sentences.append(f"{row.method}: the right prompt gives the better result in {share}")
    if row.seed_deviation is not None:
        agreeing = f"; results agree to {row.seed_agreement:.1f} dB" if row.seed_agreement is not None else ""
        sentences.append(
            f"{case}: PSNR has a standard deviation of {row.seed_deviation:.2f} dB between seeds{agreeing}"
        )
    return sentences
