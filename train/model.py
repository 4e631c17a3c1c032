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

import math
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
        sparse: whether gradients hold only the rows of the items that a step uses.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        customers: int,
        attributes: Tensor,
        popularity: Tensor,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        size, channels = config.embedding_size, len(CHANNELS)
        if not config.attributes:
            attributes = attributes[:, :0]
        items, values = len(attributes), int(attributes.max()) + 1 if attributes.numel() else 1
        self.attributes: Tensor
        self.attribute_scale: Tensor
        self.register_buffer("attributes", attributes, persistent=False)
        used = (attributes > 0).sum(1).clamp(min=1)  # (items,)
        self.register_buffer("attribute_scale", used.float().rsqrt()[:, None], persistent=False)
        self.dropped: Tensor | None = None
        """bool (items,): items that are what their attributes say alone, for one training step."""

        def embedding(rows: int, width: int, padding: int | None = None) -> nn.Embedding:
            return nn.Embedding(rows, width, padding_idx=padding, sparse=sparse)

        self.item_embedding = embedding(items, size)
        self.item_attribute = embedding(values, size, 0)
        if config.encoder == "history":
            self.source_embedding = embedding(items, size)
            self.source_attribute = embedding(values, size, 0)
            self.gain = nn.Parameter(torch.ones(self.components))
        else:
            # sparse: a step's gradient then holds the batch's customers, however many there are
            self.customer_embedding = nn.Embedding(customers, self.components * size, sparse=True)
        for each in self.modules():
            if isinstance(each, nn.Embedding):
                nn.init.normal_(each.weight, std=0.1)
                if each.padding_idx is not None:
                    nn.init.zeros_(each.weight[each.padding_idx])

        self.attention_weight = nn.Parameter(torch.randn(channels, size, size) * 0.01)
        self.attention_bias = nn.Parameter(torch.zeros(channels, self.components))
        self.attention_item_bias = embedding(items, channels * self.components)
        """(items, 2 K): b_{c,v,k}, channel by channel."""
        self.item_bias = embedding(items, channels)
        """(items, 2): b_{c,v}."""
        log_popularity = torch.log1p(popularity)
        with torch.no_grad():
            self.attention_bias[:, 0] = config.shared_start
            self.attention_item_bias.weight.zero_()
            self.item_bias.weight.copy_((log_popularity - log_popularity.mean(1, keepdim=True)).T)
        self._freeze_attention()
        self.pair_class = nn.Linear(self.components * size, 3)
        nn.init.zeros_(self.pair_class.weight)
        self.neighbours: Neighbours | None = None
        """Set after training, by ``blend``."""
        self.popularity: Tensor | None = None
        """float32 (2, items), what customers without a history are shown; set after training."""

    def _freeze_attention(self) -> None:
        """Hold at 0 the parts of the logit that the kind of attention has no use for."""
        frozen = {
            "softmax": [],
            "sigmoid": [],
            "learned": [self.attention_weight, self.attention_item_bias.weight],
            "none": [self.attention_weight, self.attention_item_bias.weight, self.attention_bias],
        }[self.config.attention]
        for parameter in frozen:
            nn.init.zeros_(parameter)
            parameter.requires_grad = False

    @property
    def components(self) -> int:
        """K, vectors per customer: with 2 components the shared one is there but never asked."""
        return max(self.config.components, len(COMPONENTS))

    @property
    def items(self) -> int:
        """Items in the catalogue."""
        return len(self.attributes)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Item embeddings y of int64 (n,) item rows: float32 (n, d)."""
        return self._vectors(items, self.item_embedding, self.item_attribute)

    def source_vectors(self, items: Tensor) -> Tensor:
        """What int64 (n,) item rows add to a history, z: float32 (n, d)."""
        return self._vectors(items, self.source_embedding, self.source_attribute)

    def _vectors(self, items: Tensor, own: nn.Embedding, attribute: nn.Embedding) -> Tensor:
        vectors: Tensor = own(items)  # (n, d)
        if self.dropped is not None:
            vectors = vectors * ~self.dropped[items, None]
        if self.attributes.shape[1] == 0:
            return vectors
        summed = nn.functional.embedding_bag(
            self.attributes[items],
            attribute.weight,
            mode="sum",
            sparse=attribute.sparse,
            padding_idx=attribute.padding_idx,
        )
        return vectors + summed * self.attribute_scale[items]

    def encode(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """Embed a batch of customers.

        Returns:
            float32 (batch, K, d) components, and bool (batch, K), which of them have data.
        """
        counts = torch.cat([histories.counts.sum(1, keepdim=True), histories.counts], 1)  # (b, 3)
        in_both = None
        if self.config.components > len(COMPONENTS):
            in_both = self._in_both(histories)
            owners = torch.repeat_interleave(histories.counts.sum(1))[in_both]
            counts = torch.cat([counts, owners.bincount(minlength=len(counts))[:, None]], 1)
        has = counts > 0
        if self.config.components < len(COMPONENTS):
            has[:, 0] = False
        if self.config.encoder == "table":
            rows = self.customer_embedding(histories.customers)  # (b, K d)
            return rows.reshape(len(rows), self.components, -1), has
        distinct, inverse = torch.unique(histories.items, return_inverse=True)
        sources = self.source_vectors(distinct)  # (distinct, d)
        bags = _sums(sources, inverse, histories.counts.flatten())
        bags = bags.reshape(*histories.counts.shape, -1)  # (b, 2, d)
        parts = [bags.sum(1, keepdim=True), bags]
        if in_both is not None:
            parts.append(_sums(sources, inverse[in_both], counts[:, -1])[:, None])
        sums = torch.cat(parts, 1)  # (b, K, d)
        norm = counts.clamp(min=1).float() ** self.config.pooling  # (b, K)
        return sums * (self.gain / norm)[..., None], has

    def _in_both(self, histories: Histories) -> Tensor:
        """Find purchases of items bought in both channels, each pair once: bool (purchases,)."""
        owners = torch.repeat_interleave(histories.counts.sum(1))
        pairs = owners * self.items + histories.items
        _, inverse, times = torch.unique(pairs, return_inverse=True, return_counts=True)
        bags = torch.repeat_interleave(histories.counts.flatten())
        found: Tensor = (times[inverse] > 1) & (bags % len(CHANNELS) == 0)
        return found

    def score(
        self, components: Tensor, has: Tensor, channel: int, items: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score items for a batch of customers in one channel.

        Args:
            components: float32 (batch, K, d), from ``encode``.
            has: bool (batch, K), which components have data.
            channel: row of ``CHANNELS``.
            items: int64 (n,) item rows.

        Returns:
            float32 (batch, n) scores s, and float32 (batch, K, n) attention α, 0 where a
            component has no data.
        """
        vectors = self.item_vectors(items)  # (n, d)
        logits = self._turned(components, channel) @ vectors.T  # (b, K, n)
        bias, logit_bias = self._biases(items, channel)
        attention = self._weights(logits + logit_bias.T, has[..., None])  # (b, K, n)
        affinities = components @ vectors.T  # (b, K, n)
        return (attention * affinities).sum(1) + bias, attention

    def score_pairs(
        self, components: Tensor, has: Tensor, channel: int, rows: Tensor, items: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score single pairs of a customer and an item in one channel.

        Args:
            components: float32 (batch, K, d), from ``encode``.
            has: bool (batch, K).
            channel: row of ``CHANNELS``.
            rows: int64 (pairs,), the customer's row in the batch.
            items: int64 (pairs,).

        Returns:
            float32 (pairs,) scores s and float32 (pairs, K) attention α.
        """
        vectors = self.item_vectors(items)[:, None]  # (pairs, 1, d)
        logits = (self._turned(components, channel)[rows] * vectors).sum(2)  # (pairs, K)
        bias, logit_bias = self._biases(items, channel)
        attention = self._weights(logits + logit_bias, has[rows])  # (pairs, K)
        affinities = (components[rows] * vectors).sum(2)  # (pairs, K)
        return (attention * affinities).sum(1) + bias, attention

    def _turned(self, components: Tensor, channel: int) -> Tensor:
        """Apply W_c to the customers' side: W_cᵀ x / √d, (b, K, d)."""
        turned: Tensor = components @ self.attention_weight[channel]
        return turned / math.sqrt(self.config.embedding_size)

    def _biases(self, items: Tensor, channel: int) -> tuple[Tensor, Tensor]:
        """Look up b_{c,v}, (n,), and b_{c,k} + b_{c,v,k}, (n, K)."""
        of_items = self.attention_item_bias(items).unflatten(1, (len(CHANNELS), -1))  # (n, 2, K)
        logit_bias = self.attention_bias[channel] + of_items[:, channel]
        return self.item_bias(items)[:, channel], logit_bias

    def _weights(self, logits: Tensor, has: Tensor) -> Tensor:
        """Turn logits (b, K, …) into attention."""
        logits = logits.masked_fill(~has, _MASKED)
        weights = logits.sigmoid() if self.config.attention == "sigmoid" else logits.softmax(1)
        return weights * has

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
        """Score the whole catalogue for a batch of customers as a kiosk would: (batch, items).

        By all terms; by popularity for customers without a history.
        """
        components, has = self.encode(histories)
        scores, _ = self.score(components, has, channel, torch.arange(self.items))
        scores = scores + self.neighbour_scores(histories, channel)
        if self.popularity is None:
            return scores
        strangers = histories.counts.sum(1, keepdim=True) == 0  # (b, 1)
        return torch.where(strangers, self.popularity[channel], scores)

    def classify(self, components: Tensor, items: Tensor) -> Tensor:
        """Logits of (both channels, offline only, online only) for pairs of customer and item.

        The form is ours: linear in the element-wise products x_k ∘ y.

        Args:
            components: float32 (pairs, K, d).
            items: int64 (pairs,).

        Returns:
            float32 (pairs, 3).
        """
        products = components * self.item_vectors(items)[:, None]  # (pairs, K, d)
        logits: Tensor = self.pair_class(products.flatten(1))  # (pairs, 3)
        return logits


def _sums(vectors: Tensor, rows: Tensor, sizes: Tensor) -> Tensor:
    """Add up vectors bag by bag: (bags, d)."""
    offsets = sizes.cumsum(0) - sizes
    return nn.functional.embedding_bag(rows, vectors, offsets=offsets, mode="sum")
