"""What is asked: prompts of exact length, data sets, bodies."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalmesh.domain.load_test import LoadTestSpec


def preview(
    spec: "LoadTestSpec", file_path: str = "", tokenizer_path: str = "", count: int = 1
) -> list[tuple[bytes, int]]:
    """The first bodies of a load test and the lengths of their prompts (`inspection.preview`)."""
    from evalmesh.load_generator.prompts import inspection  # noqa: PLC0415 - the engine imports this package's neighbours

    return inspection.preview(spec, file_path, tokenizer_path, count)
