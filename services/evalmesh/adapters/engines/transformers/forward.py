"""A pass through the model, whatever its class calls things."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from evalmesh.adapters.engines.transformers.cache import SlotCache


class Forward:
    """The model as a function from tokens to logits."""

    def __init__(self, model: Any) -> None:
        self._model = model
        names = inspect.signature(model.forward).parameters
        # Its name depends on the release and, for recurrent models, on the class.
        self._cache_name = next(name for name in ("cache", "past_key_values", "cache_params") if name in names)
        self._takes_positions = "position_ids" in names
        self._takes_keep = "logits_to_keep" in names
        self.device: torch.device = model.get_input_embeddings().weight.device
        self.vocabulary: int = model.get_input_embeddings().weight.shape[0]
        self._layers = _plain_layers(model.config)

    @property
    def batches(self) -> bool:
        """Whether rows may share a batch: attention over all of the past or a window of it, and nothing recurrent.

        In a recurrent model what stands left of a short row would run into its state.
        """
        return self._layers > 0

    def cache(self, rows: int, columns: int) -> Any:
        """An empty one. Models that cannot be batched have the library's own, for one row."""
        return SlotCache(self._layers, rows, columns) if self.batches else DynamicCache(config=self._model.config)

    def __call__(self, ids: torch.Tensor, lengths: list[int], cache: Any = None, keep: int = 1) -> torch.Tensor:
        """Feeds `ids` [rows, new] and gives the logits of the last `keep` of them, [rows, keep, vocabulary].

        Rows are aligned at their ends. `lengths`: tokens of each, with those that the cache has seen and the new ones.
        """
        new = ids.shape[1]
        width = new + cache.width if isinstance(cache, SlotCache) else max(lengths)
        padded = any(length != width for length in lengths)
        ends = torch.tensor(lengths, device=self.device)
        given: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            given[self._cache_name] = cache
        if padded or cache is None:
            given["attention_mask"] = torch.arange(width, device=self.device) >= (width - ends)[:, None]
        if self._takes_positions:
            positions = ends[:, None] - new + torch.arange(new, device=self.device)
            given["position_ids"] = positions.clamp_(min=0)
        if self._takes_keep:
            given["logits_to_keep"] = keep
        if isinstance(cache, SlotCache):
            cache.reserve(new)
        logits: torch.Tensor = self._model(input_ids=ids, **given).logits[:, -keep:]
        if isinstance(cache, SlotCache):
            cache.advance(new)
        return logits

    def feed(self, rows: list[list[int]], cache: Any, most: int) -> torch.Tensor:
        """The logits after each row, [rows, vocabulary]. A row by itself is fed in pieces of at most `most` tokens."""
        if len(rows) > 1:
            return self(self.left_padded(rows), [len(row) for row in rows], cache)[:, -1]
        for _, logits in self.pieces(rows[0], cache, most, every=False):
            last = logits
        return last[-1:]

    def pieces(self, row: list[int], cache: Any, most: int, *, every: bool) -> Iterator[tuple[int, torch.Tensor]]:
        """Feeds a row piece by piece: where each begins, and the logits of its last token or of all of them.

        A recurrent model is fed in one go: so its state is made.
        """
        most = most if self.batches else len(row)
        for start in range(0, len(row), most):
            piece = row[start : start + most]
            yield start, self(self.left_padded([piece]), [start + len(piece)], cache, len(piece) if every else 1)[0]

    def left_padded(self, rows: list[list[int]]) -> torch.Tensor:
        """[rows, longest]; what it is padded with is never looked at."""
        width = max(map(len, rows))
        return torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)


def _plain_layers(config: Any) -> int:
    """How many layers keep keys and values of tokens, if all do and nothing else; else 0."""
    layers = DynamicCache(config=config).layers
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return len(layers) if plain else 0
