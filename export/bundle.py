"""From a trained run to a bundle, the folder that ``docs/release-format.md`` describes."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.numpy import save

from c2rec.export.golden import golden_tensors
from c2rec.export.graph import encoder_graph, scorer_graph
from c2rec.export.space import space_of
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.home.disk import sync_to_disk
from c2rec.runtime.records import CHANNELS, COMPONENTS
from c2rec.runtime.release.experiment import Experiment
from c2rec.runtime.release.manifest import (
    MANIFEST,
    ChannelCalibration,
    Counts,
    ListedFile,
    Manifest,
)
from c2rec.runtime.release.tensors import Array
from c2rec.runtime.rules.rules_file import RULES
from c2rec.train.batches import PurchaseIndex
from c2rec.train.config import parse_blend
from c2rec.train.files import write_bytes
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import Wanted
from c2rec.train.model import C2Rec
from c2rec.train.probability import fit_platt
from c2rec.train.run import Run
from c2rec.train.split import Purchases, all_history
from c2rec.train.strangers import popularity
from c2rec.train.transactions import Dataset, read_dataset

EVERY_STORE = "all"
"""The one store of all customers, where the data names none."""
_AT_ONCE = 1024
"""Customers encoded at a time."""


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a bundle says, before it is written."""

    items: dict[str, Array]
    """Tensors of items.safetensors."""
    customers: dict[str, Array]
    """Tensors of customers.safetensors."""
    golden: dict[str, Array]
    """Tensors of golden.safetensors."""
    item_rows: list[dict[str, str]]
    customer_ids: list[str]
    stores: list[list[str]]
    """For each customer, where they bought offline, ascending."""
    interactions: int


@dataclass(frozen=True, slots=True)
class Further:
    """What an experiment adds to a bundle; ``arms.py`` makes it."""

    experiment: Experiment
    files: Mapping[str, bytes]
    """By name, those that don't hang on the release's name."""
    graphs: Callable[[str], Mapping[str, bytes]]
    """Makes the others, with the release's name in them."""


def write_bundle(
    run: Run,
    out: Path,
    *,
    data: Dataset | None = None,
    rules: str | None = None,
    further: Further | None = None,
    check: Callable[[Path], object],
) -> Manifest:
    """Write the bundle of a run.

    The folder appears when it is complete and checked, or not at all.

    Args:
        run: a fitted run.
        out: a folder that doesn't exist, or an empty one.
        data: the purchases that it knows, as of ``with_newer``; None for the run's own.
        rules: text of rules.toml, see ``rules_of``; None: the release has none.
        further: an experiment.
        check: called with the complete folder under a temporary name; raises to refuse it.

    Raises:
        ReleaseError: ``out`` is there and not empty, or can't be written, or the check failed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ReleaseError(f"{out}: is there already; choose another --out or delete it first")
    data = data or run.data.dataset
    content = collect(run, data)
    out = out.resolve()
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        temporary.chmod(0o755)
        manifest = _write(run, data, content, rules, further, temporary)
        check(temporary)
        temporary.replace(out)
        sync_to_disk(out.parent)
    except OSError as error:
        raise ReleaseError(f"{out}: can't be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def collect(run: Run, dataset: Dataset) -> Content:
    """Gather what the bundle of a run says.

    Histories hold every purchase in the data, those of the validation and test periods too: a
    kiosk should know what was bought yesterday. With the history encoder, customers who were
    left out of training are served as well; a table has rows for those it was trained on alone.
    """
    vocabulary = run.data.split.vocabulary
    model = run.model
    if model.config.components != len(COMPONENTS):
        raise ReleaseError(
            f"{run.folder}: was fitted with --components {model.config.components}, which is for "
            f"experiments; a release takes {len(COMPONENTS)}"
        )
    customer_ids, purchases = customers_of(run, dataset)
    blend = parse_blend(run.blended["blend"], f"{run.folder}: blend: ")
    # popularity is everybody's, whomever a table of customers was trained on
    _, everything = all_history(dataset, vocabulary.item_ids)
    sold = popularity(everything, model.items, blend)
    index = PurchaseIndex(purchases, customers=len(customer_ids), items=run.data.index.items)
    items = {**item_side(model), "popularity": sold}
    with torch.inference_mode():
        # a table has learned only the components that training had data for
        known = index if model.config.encoder == "history" else run.data.index
        components, has = encode_all(model, known)
        if not np.isfinite(components).all():
            raise ReleaseError(f"{run.folder}: a customer's embedding is not finite")
        golden = golden_tensors(model, sold, components)
    customers: dict[str, Array] = {
        "components": components,
        "has": has.astype(np.uint8),
        "history_offsets": index.starts.astype(np.int64),
        "history_items": purchases.items.astype(np.int32),
        "history_channels": purchases.channels.astype(np.uint8),
        "history_days": purchases.days.astype(np.int32),
    }
    rows = _item_rows(dataset.items, vocabulary.item_ids)
    stores = stores_of(dataset.transactions, customer_ids)
    return Content(items, customers, golden, rows, customer_ids, stores, len(purchases.items))


def with_newer(run: Run, newer: Path | None) -> Dataset:
    """Join a run's purchases with newer ones, of the same items.

    The model stays as it was trained, and so does its space: of a release with newer purchases a
    kiosk fetches only what changed.

    Raises:
        DataError: ``newer`` can't be used.
        PublishError: a table of customers can't take new purchases.
    """
    ours = run.data.dataset
    if newer is None:
        return ours
    if run.model.config.encoder != "history":
        raise PublishError(
            f"{run.folder}: was fitted with a table of customers, which can't take new purchases; "
            "leave --newer out, or fit with --encoder history"
        )
    both = pl.concat([ours.transactions, read_dataset(newer).transactions]).unique(
        maintain_order=True
    )
    return Dataset(both, ours.items, ours.fingerprint)


def customers_of(run: Run, data: Dataset) -> tuple[list[str], Purchases]:
    """Ids of the customers that a run can serve, ascending, and what they bought in ``data``."""
    vocabulary = run.data.split.vocabulary
    customer_ids, purchases = all_history(data, vocabulary.item_ids)
    if run.model.config.encoder == "table":
        return _only(customer_ids, purchases, vocabulary.customer_ids)
    return customer_ids, purchases


def space_of_run(run: Run) -> str:
    """The space of every release of a run, 64 hex digits."""
    graphs = [graph.SerializeToString(deterministic=True) for graph in graphs_of(run.model, "")]
    return space_of(run.data.split.vocabulary.item_ids, item_side(run.model), graphs)


def calibration(run: Run) -> tuple[ChannelCalibration, ChannelCalibration] | None:
    """Probabilities of a run's scores in both channels; None where validation can't tell."""
    if run.config.split.valid_days == 0:
        return None
    index, found = run.data.index, []
    ranker = ModelRanker(run.model, index)
    for channel in range(len(CHANNELS)):
        wanted = Wanted.of(index, run.data.split.valid, channel, new_only=True, listed=index.known)
        platt = fit_platt(ranker, wanted)
        if platt is None:
            return None
        found.append(ChannelCalibration(platt.slope, platt.intercept))
    return found[0], found[1]


def item_side(model: C2Rec) -> dict[str, Array]:
    """Tensors of items.safetensors, but popularity, which changes with every day's sales."""
    with torch.inference_mode():
        catalogue = torch.arange(model.items)
        items: dict[str, Array] = {
            "item_embeddings": model.item_vectors(catalogue).numpy(),
            "item_bias": model.item_bias.weight.T.contiguous().numpy(),
            "attention_bias": attention_bias(model).numpy(),
        }
        items |= _neighbour_rows(model)
        if model.config.encoder == "history":
            items["source_embeddings"] = model.source_vectors(catalogue).numpy()
    return items


def attention_bias(model: C2Rec) -> torch.Tensor:
    """Add up b_{c,k} + b_{c,v,k} as a release stores it: float32 (2, 3, items)."""
    of_items = model.attention_item_bias.weight.T.reshape(len(CHANNELS), -1, model.items)
    bias: torch.Tensor = model.attention_bias[:, :, None] + of_items
    return bias


def encode_all(
    model: C2Rec, index: PurchaseIndex
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Embed every customer of an index: float32 (customers, 3, d) and bool (customers, 3)."""
    size = model.config.embedding_size
    components = np.empty((index.customers, len(COMPONENTS), size), dtype=np.float32)
    has = np.empty((index.customers, len(COMPONENTS)), dtype=np.bool_)
    for start in range(0, index.customers, _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, index.customers))
        x, present = model.encode(index.histories(rows))
        components[rows], has[rows] = x.numpy(), present.numpy()
    return components, has


def _only(
    customer_ids: list[str], purchases: Purchases, known: list[str]
) -> tuple[list[str], Purchases]:
    """Keep customers of the vocabulary, numbered as in it."""
    number = {customer: row for row, customer in enumerate(known)}
    renumbered = np.array([number.get(customer, -1) for customer in customer_ids], np.int32)
    rows = renumbered[purchases.customers]
    keep = rows >= 0
    return known, Purchases(
        customers=rows[keep],
        items=purchases.items[keep],
        channels=purchases.channels[keep],
        days=purchases.days[keep],
        quantities=purchases.quantities[keep],
    )


def _neighbour_rows(model: C2Rec) -> dict[str, Array]:
    if model.neighbours is None:  # a row that says nothing, so that one graph serves all
        return {
            "neighbour_items": np.zeros((model.items, 1), np.int32),
            "neighbour_weights": np.zeros((model.items, len(CHANNELS), 1), np.float16),
        }
    return {
        "neighbour_items": model.neighbours.items.numpy().astype(np.int32),
        "neighbour_weights": model.neighbours.weights.numpy().astype(np.float16),
    }


def stores_of(transactions: pl.DataFrame, customer_ids: list[str]) -> list[list[str]]:
    """For each customer, where they bought offline, ascending."""
    if transactions["store_id"].null_count() == transactions.height:
        return [[EVERY_STORE]] * len(customer_ids)
    bought = (
        transactions.filter((pl.col("channel") == CHANNELS[0]) & pl.col("store_id").is_not_null())
        .group_by("customer_id")
        .agg(pl.col("store_id").unique())
    )
    found = {customer: sorted(stores) for customer, stores in bought.iter_rows()}
    return [found.get(customer, []) for customer in customer_ids]


def _item_rows(items: pl.DataFrame | None, item_ids: list[str]) -> list[dict[str, str]]:
    catalogue = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
    if items is not None:
        catalogue = catalogue.join(items, on="item_id", how="left", maintain_order="left")
    catalogue = catalogue.with_columns(pl.all().cast(pl.String).fill_null(""))
    if "name" not in catalogue.columns:
        catalogue = catalogue.with_columns(name=pl.lit(""))
    return catalogue.rows(named=True)


def _write(
    run: Run,
    dataset: Dataset,
    content: Content,
    rules: str | None,
    further: Further | None,
    folder: Path,
) -> Manifest:
    model = run.model
    files = {
        "items.safetensors": safetensors(content.items),
        "customers.safetensors": safetensors(content.customers),
        "golden.safetensors": safetensors(content.golden),
        "items.jsonl": _json_lines(content.item_rows),
        "customers.jsonl": _json_lines(content.customer_ids),
        "stores.jsonl": _json_lines(content.stores),
    }
    if rules is not None:
        files[RULES] = rules.encode()
    days = dataset.transactions["timestamp"].dt.date()
    first, last = str(days.min()), str(days.max())
    # the graphs carry the release's name, so the name is made of everything but it
    nameless = [graph.SerializeToString(deterministic=True) for graph in graphs_of(model, "")]
    everything = [*files.values(), *nameless]
    if further is not None:
        files |= further.files
        said = json.dumps(further.experiment.document()).encode()
        everything += [*further.files.values(), *further.graphs("").values(), said]
    digests = [hashlib.sha256(data).digest() for data in everything]
    release = f"{last}-{hashlib.sha256(b''.join(digests)).hexdigest()[:8]}"
    graphs = graphs_of(model, release)
    for name, graph in zip(("scorer.onnx", "encoder.onnx"), graphs, strict=False):
        files[name] = graph.SerializeToString(deterministic=True)
    if further is not None:
        files |= further.graphs(release)

    for name, data in files.items():
        write_bytes(folder / name, data)
    manifest = Manifest(
        release=release,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        producer=f"c2rec {version('c2rec')}",
        encoder=model.config.encoder,
        attention="sigmoid" if model.config.attention == "sigmoid" else "softmax",
        embedding_size=model.config.embedding_size,
        space=space_of([row["item_id"] for row in content.item_rows], content.items, nameless),
        counts=Counts(model.items, len(content.customer_ids), content.interactions),
        data_from=first,
        data_to=last,
        files={
            name: ListedFile(hashlib.sha256(data).hexdigest(), len(data))
            for name, data in files.items()
        },
        calibration=calibration(run),
        experiment=None if further is None else further.experiment,
    )
    write_bytes(folder / MANIFEST, manifest.to_json().encode())
    return manifest


def graphs_of(model: C2Rec, release: str) -> list[Any]:
    """Make scorer.onnx and, with a history encoder, encoder.onnx."""
    graphs = [scorer_graph(model, release)]
    if model.config.encoder == "history":
        graphs.append(encoder_graph(model, release))
    return graphs


def safetensors(arrays: dict[str, Array]) -> bytes:
    """Write a safetensors file."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _json_lines(rows: Iterable[object]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
