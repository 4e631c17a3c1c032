"""Makes random releases for tests, and says in numpy what their graphs compute."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, parser
from safetensors.numpy import load_file, save_file

from c2rec.export.space import space_of
from c2rec.runtime.release.manifest import Counts, EncoderName, ListedFile, Manifest

Array = npt.NDArray[Any]
POOLING = 0.5

_SCORER = """
<ir_version: 10, opset_import: ["": 21]>
scorer (float[batch, 3, d] components, bool[batch, 3] has, int64 channel, float[n, d]
        item_embeddings, float[2, n] item_bias, float[2, 3, n] attention_bias,
        int64[batch, length] history_items, float[batch, length] history_weights,
        int32[n, m] neighbour_items, float16[n, 2, m] neighbour_weights)
    => (float[batch, n] scores, float[batch, 3, n] attention)
<int64[1] one = {1}, int64[1] two = {2}, float masked = {-1e9}>
{
    transposed = Transpose <perm = [1, 0]> (item_embeddings)
    affinities = MatMul (components, transposed)
    weight = Gather <axis = 0> (weights, channel)
    turned = MatMul (components, weight)
    bare = MatMul (turned, transposed)
    bias = Gather <axis = 0> (attention_bias, channel)
    logits = Add (bare, bias)
    present = Unsqueeze (has, two)
    kept = Where (present, logits, masked)
    soft = Softmax <axis = 1> (kept)
    ones = Cast <to = 1> (present)
    attention = Mul (soft, ones)
    parts = Mul (attention, affinities)
    sum = ReduceSum <keepdims = 0> (parts, one)
    level = Gather <axis = 0> (item_bias, channel)
    bare_scores = Add (sum, level)
    bought_halves = Gather <axis = 0> (neighbour_weights, history_items)
    halves = Gather <axis = 2> (bought_halves, channel)
    values = Cast <to = 1> (halves)
    bought_names = Gather <axis = 0> (neighbour_items, history_items)
    named = Cast <to = 7> (bought_names)
    depth = Shape <start = 0, end = 1> (item_embeddings)
    switch = Constant <value_floats = [0.0, 1.0]> ()
    places = OneHot <axis = 3> (named, depth, switch)
    three = Constant <value_ints = [3]> ()
    column = Unsqueeze (values, three)
    table = Mul (places, column)
    rows = ReduceSum <keepdims = 0> (table, two)
    heavy = Unsqueeze (history_weights, two)
    weighed = Mul (rows, heavy)
    spoken = ReduceSum <keepdims = 0> (weighed, one)
    total = ReduceSum <keepdims = 1> (history_weights, one)
    least = Constant <value_float = 1.0> ()
    divisor = Max (total, least)
    mean = Div (spoken, divisor)
    scores = Add (bare_scores, mean)
}
"""

_ENCODER = """
<ir_version: 10, opset_import: ["": 21]>
encoder (float[n, d] source_embeddings, int64[batch, length] history_items,
         int64[batch, length] history_channels, float[batch, length] history_weights)
    => (float[batch, 3, d] components, bool[batch, 3] has)
<int64[1] one = {1}, int64[1] two = {2}, float zero = {0}, float least = {1}>
{
    sources = Gather <axis = 0> (source_embeddings, history_items)
    codes = Unsqueeze (history_channels, one)
    in_component = Equal (codes, component_codes)
    in_shared = Less (component_codes, zero_code)
    mask = Or (in_component, in_shared)
    flags = Cast <to = 1> (mask)
    spread = Unsqueeze (history_weights, one)
    weights = Mul (flags, spread)
    sums = MatMul (weights, sources)
    counts = ReduceSum <keepdims = 1> (weights, two)
    floor = Max (counts, least)
    norm = Pow (floor, pooling)
    components = Div (sums, norm)
    flat = Squeeze (counts, two)
    has = Greater (flat, zero)
}
"""


@dataclass(frozen=True, repr=False)  # of all arrays it would be longer than any message
class Release:
    """A bundle on disk and what is in it."""

    folder: Path
    manifest: Manifest
    weights: Array
    """float32 (2, d, d), W_c / √d"""
    items: dict[str, Array]
    customers: dict[str, Array]
    item_ids: list[str]
    names: list[str]
    customer_ids: list[str]

    def history(self, customer: int) -> list[tuple[int, int]]:
        """(item row, channel) of what a customer bought."""
        first, last = self.customers["history_offsets"][customer : customer + 2]
        items = self.customers["history_items"][first:last].tolist()
        channels = self.customers["history_channels"][first:last].tolist()
        return list(zip(items, channels, strict=True))

    def days(self, customer: int) -> list[int]:
        """Day of each purchase in ``history``, since 1970."""
        first, last = self.customers["history_offsets"][customer : customer + 2]
        days: list[int] = self.customers["history_days"][first:last].tolist()
        return days

    def score(
        self, components: Array, has: Array, channel: int, history: list[tuple[int, int]]
    ) -> tuple[Array, Array]:
        """Scores (n,) and attention (3, n) of one customer, by the formula, in float64."""
        vectors = self.items["item_embeddings"].astype(np.float64)
        x = components.astype(np.float64)
        logits = x @ self.weights[channel] @ vectors.T + self.items["attention_bias"][channel]
        exponents = np.exp(logits - logits.max()) * has[:, None]
        attention = exponents / np.maximum(exponents.sum(0), 1e-300)
        scores = (attention * (x @ vectors.T)).sum(0) + self.items["item_bias"][channel]
        for item, _ in history:
            named = self.items["neighbour_items"][item]
            for other, weight in zip(
                named, self.items["neighbour_weights"][item, channel], strict=True
            ):
                scores[other] += np.float64(weight) / len(history)
        return scores, attention

    def encode(self, history: list[tuple[int, int]]) -> tuple[Array, Array]:
        """Components (3, d) and has (3,) of a history."""
        return encode(self.items["source_embeddings"], history)


def encode(sources: Array, history: list[tuple[int, int]]) -> tuple[Array, Array]:
    """Sum what was bought: all of it, in the store, online."""
    components = np.zeros((3, sources.shape[1]), np.float32)
    has = np.zeros(3, np.bool_)
    for component, channels in enumerate([(0, 1), (0,), (1,)]):
        rows = [item for item, channel in history if channel in channels]
        if rows:
            components[component] = sources[rows].sum(0) / len(rows) ** POOLING
            has[component] = True
    return components, has


def make_release(
    folder: Path,
    *,
    items: int = 40,
    customers: int = 30,
    size: int = 8,
    encoder: EncoderName = "history",
    seed: int = 0,
    name: str = "2020-07-27-00000001",
    sold_online: bool = True,
    stores: list[list[str]] | None = None,
    rebought: Collection[int] = (),
    bought_again: Collection[int] = (),
) -> Release:
    """Write a bundle; customer 0 bought nothing, 1 only in the store, 2 only online.

    ``stores`` are those of each customer; otherwise all belong to the store "all". The same items,
    size, encoder and seed give the same space; customers in ``rebought`` then have another history,
    and those in ``bought_again`` the same one, but bought a day later.
    """
    rng, later = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    model_rng = np.random.default_rng([seed, 2])
    folder.mkdir(parents=True)

    def normal(*shape: int) -> Array:
        return (rng.normal(size=shape) * 0.5).astype(np.float32)

    item_tensors = {
        "item_embeddings": normal(items, size),
        "item_bias": normal(2, items),
        "attention_bias": normal(2, 3, items),
        "source_embeddings": normal(items, size),
        "neighbour_items": rng.integers(0, items, (items, 5)).astype(np.int32),
        "neighbour_weights": normal(items, 2, 5).astype(np.float16),
    }
    histories: list[list[tuple[int, int]]] = []
    for customer in range(customers):
        allowed = {0: (), 1: (0,), 2: (1,)}.get(customer, (0, 1))
        history = [
            (int(item), channel)
            for channel in allowed
            for item in rng.choice(items, size=rng.integers(1, min(9, items)), replace=False)
        ]
        if customer in rebought:
            bought = later.choice(items, size=5, replace=False)
            history = [(int(item), 0) for item in bought]
        histories.append(history)
    flat = [purchase for history in histories for purchase in history]
    days = [
        18_444 + (3 * item + 5 * channel + 7 * customer) % 26 + (customer in bought_again)
        for customer, history in enumerate(histories)
        for item, channel in history
    ]  # 2020-07-01 to 2020-07-27
    encoded = [encode(item_tensors["source_embeddings"], history) for history in histories]
    has = np.stack([flags for _, flags in encoded])
    components = np.stack([vectors for vectors, _ in encoded])
    if encoder == "table":
        components = normal(customers, 3, size)
        components[list(rebought)] += 1
        del item_tensors["source_embeddings"]
    popularity = np.zeros((2, items), np.float32)
    for item, channel in flat:
        popularity[channel, item] += 1
    popularity[1] *= sold_online
    item_tensors["popularity"] = popularity
    customer_tensors = {
        "components": components,
        "has": has.astype(np.uint8),
        "history_offsets": np.cumsum([0, *map(len, histories)], dtype=np.int64),
        "history_items": np.array([item for item, _ in flat], np.int32),
        "history_channels": np.array([channel for _, channel in flat], np.uint8),
        "history_days": np.array(days, np.int32),
    }
    weights = (model_rng.normal(size=(2, size, size)) * 0.5 / size**0.5).astype(np.float32)
    # an id with a comma, one outside ASCII, and a name that would colour a terminal
    item_ids = [*(f"i{n:06}" for n in range(items - 2)), "j,1", "été"]
    names = ["\x1b[31mred\x07", *(f"Item {n}" for n in range(1, items))]
    customer_ids = [f"c{n:06}" for n in range(customers)]
    if stores is None:
        stores = [["all"]] * customers

    save_file(item_tensors, folder / "items.safetensors")
    save_file(customer_tensors, folder / "customers.safetensors")
    rows = [
        {"item_id": i, "name": n, "colour": "red"} for i, n in zip(item_ids, names, strict=True)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "customers.jsonl").write_text("".join(json.dumps(c) + "\n" for c in customer_ids))
    (folder / "stores.jsonl").write_text("".join(json.dumps(s) + "\n" for s in stores))
    _write_graph(folder / "scorer.onnx", _SCORER, {"weights": weights})
    if encoder == "history":
        constants: dict[str, Array] = {
            "component_codes": np.array([[[-1], [0], [1]]], np.int64),
            "zero_code": np.array(0, np.int64),
            "pooling": np.array(POOLING, np.float32),
        }
        _write_graph(folder / "encoder.onnx", _ENCODER, constants)

    graphs = [path.read_bytes() for path in sorted(folder.glob("*.onnx"))]
    manifest = Manifest(
        release=name,
        created_at="2026-01-31T09:30:00Z",
        producer="tests",
        encoder=encoder,
        attention="softmax",
        embedding_size=size,
        space=space_of(item_ids, item_tensors, graphs),
        counts=Counts(items, customers, len(flat)),
        data_from="2020-07-01",
        data_to="2020-07-27",
        files=_listed(folder) | {"golden.safetensors": ListedFile("0" * 64, 1)},
    )
    made = Release(
        folder, manifest, weights, item_tensors, customer_tensors, item_ids, names, customer_ids
    )
    save_file(_golden(made, rng), folder / "golden.safetensors")
    (folder / "manifest.json").write_text(manifest.to_json())
    reseal(folder)
    return made


def reseal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Bring manifest.json's sizes and digests up to date, then change it further."""
    document = json.loads((folder / "manifest.json").read_text())
    document["files"] = {
        name: {"sha256": listed.sha256, "bytes": listed.bytes}
        for name, listed in _listed(folder).items()
    }
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document))


def change_tensor(folder: Path, file: str, name: str, change: Callable[[Array], Array]) -> None:
    """Replace a tensor by what ``change`` makes of it, and reseal the bundle."""
    tensors = load_file(folder / file)
    tensors[name] = np.ascontiguousarray(change(tensors[name].copy()))
    save_file(tensors, folder / file)
    reseal(folder)


def _golden(release: Release, rng: np.random.Generator) -> dict[str, Array]:
    """Customers who are nobody: one without a history, one of each channel, three of both."""
    items, size = len(release.item_ids), release.manifest.embedding_size
    k = min(10, items)
    histories: list[list[tuple[int, int]]] = []
    for allowed in ((), (0,), (1,), (0, 1), (0, 1), (0, 1)):
        length = int(rng.integers(1, min(9, items)))
        rows = [rng.choice(items, size=length, replace=False).tolist() for _ in allowed]
        pairs = zip(allowed, rows, strict=True)
        histories.append([(row, channel) for channel, bought in pairs for row in bought])
    sources = release.items.get("source_embeddings", np.zeros((items, size), np.float32))
    encoded = [encode(sources, history) for history in histories]
    has = np.stack([flags for _, flags in encoded])
    components = np.stack([vectors for vectors, _ in encoded])
    if release.manifest.encoder == "table":
        components = rng.normal(0, 0.5, components.shape).astype(np.float32)
    golden: dict[str, list[Any]] = {"top_items": [], "top_scores": [], "top_attention": []}
    for channel in (0, 1):
        answers = [
            release.score(components[row], has[row], channel, history)
            for row, history in enumerate(histories)
        ]
        top = [np.argsort(-scores, kind="stable")[:k] for scores, _ in answers]
        pairs_of = list(zip(answers, top, strict=True))
        golden["top_items"].append(top)
        golden["top_scores"].append([scores[best] for (scores, _), best in pairs_of])
        golden["top_attention"].append([alpha[:, best].T for (_, alpha), best in pairs_of])
    arrays = {
        "components": components,
        "has": has.astype(np.uint8),
        "top_items": np.array(golden["top_items"], np.int32),
        "top_scores": np.array(golden["top_scores"], np.float32),
        "top_attention": np.array(golden["top_attention"], np.float32),
    }
    padded = np.zeros((3, len(histories), max(map(len, histories))), np.int64)
    for row, history in enumerate(histories):
        for column, (item, channel) in enumerate(history):
            padded[:, row, column] = item, channel, 1
    arrays["history_items"] = padded[0]
    arrays["history_channels"] = padded[1]
    arrays["history_weights"] = padded[2].astype(np.float32)
    return arrays


def _listed(folder: Path) -> dict[str, ListedFile]:
    contents = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
    contents.pop("manifest.json", None)
    return {
        name: ListedFile(hashlib.sha256(data).hexdigest(), len(data))
        for name, data in contents.items()
    }


def _write_graph(path: Path, text: str, constants: dict[str, Array]) -> None:
    model = parser.parse_model(text)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
