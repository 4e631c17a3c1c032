"""Graphs against PyTorch, and what check refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, timedelta
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file, save_file

from c2rec.export.bundle import attention_bias, collect, with_newer, write_bundle
from c2rec.export.check import check_bundle
from c2rec.export.graph import encoder_graph, scorer_graph
from c2rec.export.keys import make_keys
from c2rec.export.publish import publish
from c2rec.export.space import space_of
from c2rec.runtime.errors import DataError, PublishError, ReleaseError
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.install import install
from c2rec.train import loop
from c2rec.train.config import (
    EncoderName,
    ModelConfig,
    RunConfig,
    SplitConfig,
    TrainingConfig,
    write_config,
)
from c2rec.train.metrics import evaluate_channel
from c2rec.train.model import C2Rec
from c2rec.train.run import Run, load_run, prepare
from c2rec.train.simulate import simulate
from c2rec.train.transactions import read_dataset
from tests.quiet import QuietReporter


def fitted(folder: Path, encoder: EncoderName) -> Run:
    data = folder / "data"
    simulate(data, customers=300, items=80, days=40, seed=3)
    config = RunConfig(
        data=str(data),
        fingerprint=read_dataset(data).fingerprint,
        split=SplitConfig(valid_days=5, test_days=5, min_interactions=3),
        model=ModelConfig(embedding_size=8, encoder=encoder),
        training=TrainingConfig(epochs=4, batch_size=64, threads=1),
    )
    (folder / "run").mkdir()
    write_config(folder / "run", config)
    loop.fit(config, prepare(read_dataset(data), config.split), folder / "run", QuietReporter())
    return load_run(folder / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(tmp_path_factory.mktemp("history"), "history")


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(tmp_path_factory.mktemp("table"), "table")


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    write_bundle(run, out, check=lambda folder: check_bundle(folder, run))
    return out


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copied"))


def test_a_bundle_holds_what_its_run_says(bundle: Path, run: Run) -> None:
    checked = check_bundle(bundle, run)
    assert checked.golden == 32
    assert checked.parity is not None
    assert checked.parity.requests == 16 * 16 * 2
    assert 0 < checked.parity.score_difference < 1e-4


def test_a_table_bundle_has_no_encoder_and_holds_too(table_run: Run, tmp_path: Path) -> None:
    manifest = write_bundle(
        table_run, tmp_path / "bundle", check=lambda folder: check_bundle(folder, table_run)
    )
    assert manifest.encoder == "table"
    assert "encoder.onnx" not in manifest.files
    assert manifest.counts.customers == table_run.data.index.customers


def test_a_history_bundle_serves_customers_whom_training_left_out(bundle: Path, run: Run) -> None:
    """Those below the k-core, and those of the validation and test periods alone."""
    ids = [c for block in read_bundle(bundle).customers() for c in block.customer_ids]
    assert set(run.data.split.vocabulary.customer_ids) < set(ids)


def test_two_exports_of_a_run_carry_one_name_and_the_same_files(
    bundle: Path, run: Run, tmp_path: Path
) -> None:
    again = write_bundle(run, tmp_path / "again", check=lambda _: None)
    first = read_bundle(bundle).manifest
    assert again.release == first.release
    assert again.files == first.files


def test_the_catalogue_and_the_batch_are_free_axes(run: Run) -> None:
    """Part of the catalogue, in another order, for batches of several sizes."""
    graph = scorer_graph(run.model, "r")
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        bias = attention_bias(run.model)
        for batch, items in ((1, 1), (3, 40), (17, 7), (0, 5)):
            rows = torch.from_numpy(rng.permutation(run.model.items)[:items])
            components = rng.normal(size=(batch, 3, 8)).astype(np.float32)
            has = rng.random((batch, 3)) < 0.7
            history = rng.integers(0, items, (batch, 4))
            present = (rng.random((batch, 4)) < 0.6).astype(np.float32)
            names = rng.integers(0, items, (items, 3), dtype=np.int32)
            values = rng.normal(size=(items, 2, 3)).astype(np.float16)
            for channel in (0, 1):
                scores, alphas = run.model.score(
                    torch.from_numpy(components), torch.from_numpy(has), channel, rows
                )
                shares = present / np.maximum(present.sum(1, keepdims=True), 1)
                for row, place in np.ndindex(history.shape):
                    bought = history[row, place]
                    for name, value in zip(names[bought], values[bought, channel], strict=True):
                        scores[row, name] += float(value) * float(shares[row, place])
                expected = scores, alphas
                got = session.run(
                    ["scores", "attention"],
                    {
                        "components": components,
                        "has": has,
                        "channel": np.array(channel),
                        "item_embeddings": run.model.item_vectors(rows).numpy(),
                        "item_bias": run.model.item_bias.weight[rows].T.contiguous().numpy(),
                        "attention_bias": bias[:, :, rows].numpy(),
                        "history_items": history,
                        "history_weights": present,
                        "neighbour_items": names,
                        "neighbour_weights": values,
                    },
                )
                for ours, theirs in zip(expected, got, strict=True):
                    assert ours.shape == np.shape(np.asarray(theirs))
                    np.testing.assert_allclose(
                        np.asarray(theirs), ours.numpy(), atol=1e-5, rtol=1e-5
                    )


def test_attention_is_a_softmax_over_the_components_a_customer_has(run: Run) -> None:
    rng = np.random.default_rng(1)
    components = torch.from_numpy(rng.normal(size=(8, 3, 8)).astype(np.float32))
    has = torch.tensor([[bool(row & 1 << k) for k in range(3)] for row in range(8)])
    with torch.inference_mode():
        scores, attention = run.model.score(components, has, 0, torch.arange(run.model.items))
    sums = attention.sum(1)
    assert torch.all(attention[~has] == 0)
    torch.testing.assert_close(sums[1:], torch.ones_like(sums[1:]))
    torch.testing.assert_close(scores[0], run.model.item_bias.weight[:, 0])  # the bias alone


def test_the_formula_of_the_docstring(run: Run) -> None:
    """One customer and item, written out in numpy."""
    model: C2Rec = run.model
    x = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    with torch.inference_mode():
        y = model.item_vectors(torch.tensor([5]))[0].numpy()
        weight = model.attention_weight[1].numpy()
        logits = x @ (weight @ y) / np.sqrt(8)
        logits += attention_bias(model)[1, :, 5].numpy()
        alpha = np.exp(logits) / np.exp(logits).sum()
        expected = (alpha * (x @ y)).sum() + float(model.item_bias.weight[5, 1])
        scores, attention = model.score(
            torch.from_numpy(x)[None], torch.ones(1, 3, dtype=torch.bool), 1, torch.tensor([5])
        )
    assert float(scores[0, 0]) == pytest.approx(expected, abs=1e-5)
    assert attention[0, :, 0].tolist() == pytest.approx(alpha.tolist(), abs=1e-5)


def test_graphs_are_plain_onnx_with_metadata(run: Run) -> None:
    for graph in (scorer_graph(run.model, "r-1"), encoder_graph(run.model, "r-1")):
        onnx.checker.check_model(graph, full_check=True)
        assert {node.domain for node in graph.graph.node} == {""}
        assert graph.producer_name == "c2rec"
        assert {entry.key: entry.value for entry in graph.metadata_props} == {
            "release": "r-1",
            "format": "1",
        }


def test_golden_customers_are_nobody(bundle: Path, table_run: Run, tmp_path: Path) -> None:
    """No real vector is in a file that outlives a customer's erasure."""
    table = tmp_path / "table"
    write_bundle(table_run, table, check=lambda _: None)
    for folder in (bundle, table):
        golden = load_file(folder / "golden.safetensors")["components"]
        real = load_file(folder / "customers.safetensors")["components"]
        rows = {row.tobytes() for row in real}
        assert not any(row.tobytes() in rows for row in golden)
        ratio = np.linalg.norm(golden, axis=2).mean() / np.linalg.norm(real, axis=2).mean()
        assert 0.4 < ratio < 2.5  # as long as real ones, more or less


def test_the_space_stays_where_popularity_alone_changes(run: Run, tmp_path: Path) -> None:
    """Rows and vectors of customers mean the same as long as the model is the same."""
    content = collect(run, run.data.dataset)
    ids = [row["item_id"] for row in content.item_rows]
    graphs = [scorer_graph(run.model, "").SerializeToString(deterministic=True)]
    space = space_of(ids, content.items, graphs)
    more_sold = content.items | {"popularity": content.items["popularity"] + 1}
    assert space_of(ids, more_sold, graphs) == space
    for name in content.items.keys() - {"popularity"}:
        changed = content.items | {name: content.items[name] + 1}
        assert space_of(ids, changed, graphs) != space
    assert space_of(ids[::-1], content.items, graphs) != space
    assert space_of(ids, content.items, [b"another"]) != space


def last_bought(folder: Path) -> dict[tuple[str, str, str], int]:
    """Day of each customer, item and channel of a bundle."""
    bundle, found = read_bundle(folder), dict[tuple[str, str, str], int]()
    item_ids = [item.item_id for item in bundle.items()]
    for block in bundle.customers():
        for row, customer in enumerate(block.customer_ids):
            for at in range(block.offsets[row], block.offsets[row + 1]):
                item, channel = item_ids[block.history_items[at]], block.history_channels[at]
                found[customer, item, CHANNELS[channel]] = int(block.history_days[at])
    return found


def test_the_last_day_of_each_purchase_is_known(bundle: Path, run: Run) -> None:
    """Of each item in each channel by itself, from all purchases of it."""
    expected: dict[tuple[str, str, str], int] = {}
    again, elsewhere = 0, 0
    known = set(run.data.split.vocabulary.item_ids)
    table = run.data.dataset.transactions.sort("timestamp")
    columns = table.select("customer_id", "item_id", "channel", "timestamp")
    for customer, item, channel, at in columns.iter_rows():
        day = (at.astimezone(UTC).date() - date(1970, 1, 1)).days
        again += day > expected.get((customer, item, channel), day)
        other = CHANNELS[1 - CHANNELS.index(channel)]
        elsewhere += day > expected.get((customer, item, other), day)
        if item in known:
            expected[customer, item, channel] = day
    assert again > 20
    assert elsewhere > 20
    assert last_bought(bundle) == expected


def newer_purchases(folder: Path, run: Run) -> Path:
    """A dataset: two of the run's customers, and a new one, bought something a day later."""
    table = run.data.dataset.transactions
    last = table["timestamp"].max()
    rows = table.filter(pl.col("channel") == "offline").unique("customer_id", maintain_order=True)
    rows = rows.head(3)
    theirs = set(table.join(rows, on="customer_id", how="semi")["item_id"])
    other = next(each for each in run.data.split.vocabulary.item_ids if each not in theirs)
    rows = rows.with_columns(timestamp=pl.lit(last).dt.offset_by("1d"), item_id=pl.lit(other))
    ids = pl.Series(["C-new", *rows["customer_id"].to_list()[1:]])
    folder.mkdir()
    rows.with_columns(customer_id=ids).write_parquet(folder / "transactions.parquet")
    return folder


def test_newer_purchases_are_known_in_the_same_space_and_move_alone(
    run: Run, bundle: Path, tmp_path: Path
) -> None:
    """Yesterday's model with today's purchases: a kiosk fetches what changed."""
    newer = with_newer(run, newer_purchases(tmp_path / "newer", run))
    out = tmp_path / "today"
    write_bundle(run, out, data=newer, check=lambda folder: check_bundle(folder, run, newer))
    before, after = (read_bundle(folder).manifest for folder in (bundle, out))
    assert after.space == before.space
    assert after.data_to > before.data_to
    assert after.counts.customers == before.counts.customers + 1
    assert after.release != before.release
    with pytest.raises(ReleaseError, match="it is not the run of this bundle"):
        check_bundle(out, run)
    keys, repo = make_keys(tmp_path / "keys", passphrase=None), tmp_path / "repo"
    publish(bundle, repo, keys)
    published = publish(out, repo, keys)
    assert published.deltas == 3  # of the stores of these customers


def test_who_buys_the_same_again_has_a_new_day(run: Run, bundle: Path, tmp_path: Path) -> None:
    """Days are of UTC: in Berlin it was past midnight."""
    table = run.data.dataset.transactions
    row = table.filter(pl.col("item_id").is_in(run.data.split.vocabulary.item_ids)).row(
        0, named=True
    )
    next_day = date.fromisoformat(read_bundle(bundle).manifest.data_to) + timedelta(days=2)
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "transactions.csv").write_text(
        "customer_id,item_id,channel,timestamp,store_id\n"
        f"{row['customer_id']},{row['item_id']},{row['channel']},{next_day}T01:30+02:00,"
        f"{row['store_id'] or ''}\n"
    )
    newer = with_newer(run, tmp_path / "newer")
    write_bundle(run, tmp_path / "out", data=newer, check=lambda _: None)
    before, after = last_bought(bundle), last_bought(tmp_path / "out")
    key = row["customer_id"], row["item_id"], row["channel"]
    day = (next_day - date(1970, 1, 1)).days - 1
    assert {each: after[each] for each in after if after[each] != before.get(each)} == {key: day}


def test_newer_purchases_that_cannot_be_read_or_taken_are_refused(
    run: Run, table_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="nowhere"):
        with_newer(run, tmp_path / "nowhere")
    newer = newer_purchases(tmp_path / "newer", table_run)
    with pytest.raises(PublishError, match="a table of customers, which can't take new purchases"):
        with_newer(table_run, newer)


def test_customers_belong_to_the_stores_they_bought_in(run: Run) -> None:
    table = run.data.dataset.transactions
    customers = table["customer_id"].unique().sort().to_list()
    where = {1: "S2", 2: "S1", 3: None}
    number = {customer: n % 4 for n, customer in enumerate(customers)}
    stores = [where.get(number[customer], "S1/é") for customer in table["customer_id"]]
    data = replace(run.data.dataset, transactions=table.with_columns(store_id=pl.Series(stores)))
    content = collect(run, data)
    offline = set(table.filter(pl.col("channel") == "offline")["customer_id"])
    for customer, listed in zip(content.customer_ids, content.stores, strict=True):
        store = where.get(number[customer], "S1/é")
        assert listed == ([store] if store is not None and customer in offline else [])
    nowhere = replace(
        run.data.dataset, transactions=table.with_columns(pl.lit(None, pl.String).alias("store_id"))
    )
    content = collect(run, nowhere)
    assert content.stores == [["all"]] * len(content.customer_ids)


def test_the_kiosk_answers_what_the_evaluation_ranked(
    bundle: Path, run: Run, tmp_path: Path
) -> None:
    """One ranking from PyTorch's evaluation to the kiosk's answer.

    The kiosk knows later purchases too, so customers who made none are compared.
    """
    install(bundle, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    later = set(run.data.split.valid.customers) | set(run.data.split.test.customers)
    dates = run.data.dataset.transactions.group_by("customer_id").len()
    vocabulary, ranker = run.data.split.vocabulary, loop.ModelRanker(run.model, run.data.index)
    total = dict(dates.iter_rows())
    train = run.data.split.train
    compared = 0
    for row, customer_id in enumerate(vocabulary.customer_ids):
        mine = train.customers == row
        if row in later or int(train.quantities[mine].sum()) < total[customer_id]:
            continue  # bought something that training doesn't hold
        for channel, name in ((0, "offline"), (1, "online")):
            scores = ranker.scores(np.array([row]), channel)[0].copy()
            scores[train.items[mine & (train.channels == channel)]] = -np.inf
            expected = np.argsort(-scores, kind="stable")[:5]
            answer = recommender.recommend(customer_id, k=5, channel=name)  # type: ignore[arg-type]
            assert answer.tier == "personal"
            assert [item.item_id for item in answer.items] == [
                vocabulary.item_ids[i] for i in expected
            ]
            compared += 1
    recommender.close()
    assert compared > 20


def _rewrite(folder: Path, name: str, data: bytes) -> None:
    """Change a file as somebody would who also mends the manifest."""
    import hashlib

    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _nudge(folder: Path, file: str, tensor: str, by: float) -> None:
    arrays = load_file(folder / file)
    arrays[tensor].reshape(-1)[0] += by
    save_file(arrays, folder / file)
    _rewrite(folder, file, (folder / file).read_bytes())


def _other_graph(folder: Path) -> None:
    graph = onnx.load(folder / "scorer.onnx")
    weight = next(t for t in graph.graph.initializer if t.name == "channel_weights")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[1] += 0.5
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "channel_weights"))
    _rewrite(folder, "scorer.onnx", graph.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "scorer.onnx").write_bytes(b"x" * 10), "scorer.onnx has 10 bytes"),
        (lambda f: _rewrite(f, "scorer.onnx", b"junk"), "scorer.onnx: onnx.checker refuses"),
        (_other_graph, "golden"),
        (lambda f: _nudge(f, "golden.safetensors", "top_scores", 0.01), "golden"),
        (lambda f: _nudge(f, "items.safetensors", "item_bias", 1.0), r"golden|item_bias"),
        (lambda f: _nudge(f, "items.safetensors", "popularity", 1), "'popularity' is not what"),
        (lambda f: _nudge(f, "customers.safetensors", "components", 1.0), "'components' is not"),
        (lambda f: _nudge(f, "customers.safetensors", "history_days", 1), "'history_days' is not"),
        (lambda f: (f / "items.jsonl").unlink(), "items.jsonl is listed"),
    ],
)
def test_check_refuses(
    copied: Path, run: Run, damage: Callable[[Path], object], message: str
) -> None:
    damage(copied)
    with pytest.raises(ReleaseError, match=message):
        check_bundle(copied, run)


def test_check_against_another_run_is_refused(
    bundle: Path, table_run: Run, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match="not the run of this bundle"):
        check_bundle(bundle, table_run)
    other = replace(run, model=load_run(run.folder).model)
    with torch.no_grad():
        other.model.attention_weight.add_(0.5)
    with pytest.raises(ReleaseError, match=r"differs from PyTorch's|is not what the run"):
        check_bundle(bundle, other)


def test_a_bundle_whose_check_fails_is_not_left(run: Run, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        assert (folder / "manifest.json").exists()
        raise ReleaseError("no")

    with pytest.raises(ReleaseError):
        write_bundle(run, tmp_path / "bundle", check=refuse)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").write_text("keep")
    with pytest.raises(ReleaseError, match="is there already"):
        write_bundle(run, tmp_path / "bundle", check=lambda _: None)
    assert (tmp_path / "bundle" / "mine").read_text() == "keep"


def test_evaluation_of_the_test_period_counts_somebody(run: Run) -> None:
    ranker = loop.ModelRanker(run.model, run.data.index)
    metrics = evaluate_channel(ranker, run.data.index, run.data.split.test, 0, k=10, new_only=True)
    assert len(metrics.customers) > 10
