"""C2Rec: three embeddings per customer, one per item, and a channel-wise attention over the three.

For customer u, item v and channel c, with components k in (shared, offline, online)::

    e_k = x_{u,k} · (W_c y_v) / √d + b_{c,k} + b_{c,v,k}
    α   = softmax over the components that u has data for of e_k
    s   = Σ_k α_k (x_{u,k} · y_v) + b_{c,v}

The components, the single item embedding and the weighing per item and per channel are those of
"Cross-channel Recommendation for Multi-channel Retail" (arXiv 2404.00972). The bilinear form of
the logit e is ours: the paper's could not be recovered from its text, and with a bilinear one a
whole catalogue costs a single matrix product, since x · (W y) = (Wᵀ x) · y lets W be applied to
the customer's side, once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from c2rec.runtime.records import CHANNELS, COMPONENTS
from c2rec.train.config import ModelConfig

_MASKED = -1e9
"""Logit of a component without data: finite, so that a customer with none gives no NaN."""


@dataclass(frozen=True, slots=True)
class Histories:
    """What a batch of customers bought, flat: two bags per customer, offline then online."""

    customers: Tensor
    """int64 (batch,): row in the vocabulary, for the table encoder."""
    items: Tensor
    """int64 (purchases,): bag after bag."""
    counts: Tensor
    """int64 (batch, 2): purchases in each bag."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """For each item, the items that a purchase of it speaks for, and how loudly."""

    items: Tensor
    """int64 (items, n): rows of items; a row may name an item with weight 0, to fill up."""
    weights: Tensor
    """float32 (items, 2, n): B_c per channel, each a half-precision number."""


class C2Rec(nn.Module):
    """The model of this module's docstring.

    Args:
        config: what shapes the model.
        customers: customers in the vocabulary; only the table encoder stores a row for each.
        attributes: int64 (items, columns), rows of the attribute embedding, 0 for none.
        popularity: float32 (2, items), purchases per channel; where the item bias starts.
    """

    def __init__(
        self, config: ModelConfig, *, customers: int, attributes: Tensor, popularity: Tensor
    ) -> None:
        super().__init__()
        self.config = config
        size = config.embedding_size
        items, values = len(attributes), int(attributes.max()) + 1 if attributes.numel() else 1
        self.attributes: Tensor
        self.attribute_scale: Tensor
        self.register_buffer("attributes", attributes, persistent=False)
        used = (attributes > 0).sum(1).clamp(min=1)  # (items,)
        self.register_buffer("attribute_scale", used.float().rsqrt()[:, None], persistent=False)

        self.item_embedding = nn.Embedding(items, size)
        self.item_attribute = nn.Embedding(values, size, padding_idx=0)
        if config.encoder == "history":
            self.source_embedding = nn.Embedding(items, size)
            self.source_attribute = nn.Embedding(values, size, padding_idx=0)
            self.gain = nn.Parameter(torch.ones(len(COMPONENTS)))
        else:
            # sparse: a step's gradient then holds the batch's customers, however many there are
            self.customer_embedding = nn.Embedding(customers, len(COMPONENTS) * size, sparse=True)
        for embedding in self.modules():
            if isinstance(embedding, nn.Embedding):
                nn.init.normal_(embedding.weight, std=0.1)
                if embedding.padding_idx is not None:
                    nn.init.zeros_(embedding.weight[embedding.padding_idx])

        channels = len(CHANNELS)
        self.attention_weight = nn.Parameter(torch.randn(channels, size, size) * 0.01)
        start = torch.tensor([config.shared_start, 0.0, 0.0])
        self.attention_bias = nn.Parameter(start.repeat(channels, 1))
        self.attention_item_bias = nn.Parameter(torch.zeros(channels, len(COMPONENTS), items))
        log_popularity = torch.log1p(popularity)
        self.item_bias = nn.Parameter(log_popularity - log_popularity.mean(1, keepdim=True))
        self.pair_class = nn.Linear(len(COMPONENTS) * size, 3)
        nn.init.zeros_(self.pair_class.weight)
        self.neighbours: Neighbours | None = None
        """Set after training, by ``blend``."""

    @property
    def items(self) -> int:
        """Items in the catalogue."""
        return len(self.attributes)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Item embeddings y of int64 (n,) item rows: float32 (n, d)."""
        vectors: Tensor = self.item_embedding(items) + self._attributes_of(
            items, self.item_attribute
        )
        return vectors

    def source_vectors(self, items: Tensor) -> Tensor:
        """What int64 (n,) item rows add to a history, z: float32 (n, d)."""
        vectors: Tensor = self.source_embedding(items) + self._attributes_of(
            items, self.source_attribute
        )
        return vectors

    def _attributes_of(self, items: Tensor, embedding: nn.Embedding) -> Tensor:
        rows = embedding(self.attributes[items])  # (n, columns, d)
        summed: Tensor = rows.sum(1) * self.attribute_scale[items]  # (n, d)
        return summed

    def encode(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """Embed a batch of customers.

        Returns:
            float32 (batch, 3, d) components, and bool (batch, 3), which of them have data.
        """
        counts = torch.cat([histories.counts.sum(1, keepdim=True), histories.counts], 1)  # (b, 3)
        if self.config.encoder == "table":
            rows = self.customer_embedding(histories.customers)  # (b, 3 d)
            return rows.reshape(len(rows), len(COMPONENTS), -1), counts > 0  # (b, 3, d)
        distinct, inverse = torch.unique(histories.items, return_inverse=True)
        bag_sizes = histories.counts.flatten()  # (2 b,)
        bags = nn.functional.embedding_bag(
            inverse,
            self.source_vectors(distinct),
            offsets=bag_sizes.cumsum(0) - bag_sizes,
            mode="sum",
        ).reshape(*histories.counts.shape, -1)  # (b, 2, d)
        sums = torch.cat([bags.sum(1, keepdim=True), bags], 1)  # (b, 3, d)
        norm = counts.clamp(min=1).float() ** self.config.pooling  # (b, 3)
        return sums * (self.gain / norm)[..., None], counts > 0

    def score(
        self, components: Tensor, has: Tensor, channel: int, items: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score items for a batch of customers in one channel.

        Args:
            components: float32 (batch, 3, d), from ``encode``.
            has: bool (batch, 3), which components have data.
            channel: row of ``CHANNELS``.
            items: int64 (n,) item rows.

        Returns:
            float32 (batch, n) scores s, and float32 (batch, 3, n) attention α, 0 where a
            component has no data.
        """
        vectors = self.item_vectors(items)  # (n, d)
        turned = components @ self.attention_weight[channel]  # (b, 3, d)
        turned = turned / self.config.embedding_size**0.5
        logits = turned @ vectors.T  # (b, 3, n)
        logits = logits + self.attention_bias[channel][:, None]
        logits = logits + self.attention_item_bias[channel][:, items]
        logits = logits.masked_fill(~has[..., None], _MASKED)
        attention = logits.softmax(1) * has[..., None]  # (b, 3, n)
        affinities = components @ vectors.T  # (b, 3, n)
        return (attention * affinities).sum(1) + self.item_bias[channel, items], attention

    def neighbour_scores(self, histories: Histories, channel: int) -> Tensor:
        """What the items bought add to every item's score: mean over them of their rows of B_c.

        Returns:
            float32 (batch, items); zeros where there are no neighbours or no purchases.
        """
        batch = len(histories.counts)
        scores = torch.zeros(batch * self.items)
        if self.neighbours is not None:
            bought = histories.counts.sum(1)  # (b,)
            owners = torch.repeat_interleave(torch.arange(batch), bought)  # (purchases,)
            items = self.neighbours.items[histories.items]  # (purchases, n)
            weights = self.neighbours.weights[histories.items, channel]  # (purchases, n)
            weights = weights / bought[owners, None]
            places = owners[:, None] * self.items + items  # (purchases, n)
            scores.index_add_(0, places.flatten(), weights.flatten())
        return scores.reshape(batch, self.items)

    def rank(self, histories: Histories, channel: int) -> Tensor:
        """Score the whole catalogue for a batch of customers, by all terms: (batch, items)."""
        components, has = self.encode(histories)
        scores, _ = self.score(components, has, channel, torch.arange(self.items))
        return scores + self.neighbour_scores(histories, channel)

    def classify(self, components: Tensor, items: Tensor) -> Tensor:
        """Logits of (both channels, offline only, online only) for pairs of customer and item.

        The form is ours: linear in the three element-wise products x_k ∘ y.

        Args:
            components: float32 (pairs, 3, d).
            items: int64 (pairs,).

        Returns:
            float32 (pairs, 3).
        """
        products = components * self.item_vectors(items)[:, None]  # (pairs, 3, d)
        logits: Tensor = self.pair_class(products.flatten(1))  # (pairs, 3)
        return logits
