r"""WikiText-2: the test articles of a corpus of good and featured Wikipedia articles, one article a row.

Merity et al., "Pointer Sentinel Mixture Models", arXiv:1609.07843. Licence: CC BY-SA 3.0.
The raw text has its tokens apart (` , `, ` @-@ `, `= = Heading = =`), which no model writes: it is put together again
before it is predicted. Words and bytes are counted in the raw text, so that figures are comparable with published ones.
"""

import re

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.columns import Column
from evalmesh.benchmarks.rows import sample_id
from evalmesh.benchmarks.shapes.perplexity import Perplexity
from evalmesh.domain.sample import Sample

_JOINED = (
    ("s '", "s'"),  # plural possessives
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
)
_PAIRED = tuple(
    (re.compile(rf"{left}\s*([^{right}]*?)\s*{right}"), rf"{shown[0]}\1{shown[1]}")
    for left, right, shown in (
        (r"\(", r"\)", "()"),
        (r"\[", r"\]", "[]"),
        ("{", "}", "{}"),
        ('"', '"', '""'),
        ("'", "'", "''"),
    )
)
_LAST = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


def detokenized(text: str) -> str:
    """The text as people write it. The order matters, since a rule sees what those before it have made."""
    for apart, together in _JOINED:
        text = text.replace(apart, together)
    for pattern, together in _PAIRED:
        text = pattern.sub(together, text)
    for apart, together in _LAST:
        text = text.replace(apart, together)
    return text


def to_sample(row: Row, context: RowContext) -> Sample:
    """Column page: an article. Blanks at its ends count as words' ends, so they stay."""
    page = row.get("page")
    if not isinstance(page, str) or not page.strip():
        state = "is missing" if "page" not in row else "holds no text"
        raise ValueError(f"column 'page' {state} (there are: {', '.join(map(str, row)) or 'none'})")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=page,
        target=(),
    )


BENCHMARK = Benchmark(
    name="wikitext",
    version=1,
    title="WikiText-2",
    description="Wikipedia articles: how well a model predicts them, in bits per byte and perplexities.",
    dataset=DatasetInfo(huggingface="EleutherAI/wikitext_document_level", license="CC BY-SA 3.0"),
    shape=Perplexity(prepare=detokenized),
    to_sample=to_sample,
    subsets=("wikitext-2-raw-v1",),
    columns=(Column("page", ("text", "document", "content")),),
    tags=("language-modelling", "perplexity"),
)
