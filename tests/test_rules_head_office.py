"""Rules that head office sends: checked against a run, published, synced, obeyed."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from c2rec.export.cli import cli
from c2rec.export.publish import publish
from c2rec.export.rules import rules_of
from c2rec.runtime.errors import DataError
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.install import install
from c2rec.runtime.rules.rules_file import check_rules
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig, write_config
from c2rec.train.loop import fit
from c2rec.train.run import Run, load_run, prepare
from c2rec.train.simulate import simulate
from c2rec.train.transactions import read_dataset
from tests.faults.place import CUSTOMER, make_place
from tests.quiet import QuietReporter
from tests.release import reseal
from tests.rule_cases import make_shop, rows_of, to_toml

PAGE = (Path(__file__).parent.parent / "docs" / "rules.md").read_text()
EXAMPLE = re.search(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    simulate(folder / "data", customers=200, items=60, days=40, seed=3)
    config = RunConfig(
        data=str(folder / "data"),
        fingerprint=read_dataset(folder / "data").fingerprint,
        split=SplitConfig(valid_days=5, test_days=5, min_interactions=3),
        model=ModelConfig(embedding_size=8, encoder="history"),
        training=TrainingConfig(epochs=2, batch_size=64, threads=1),
    )
    (folder / "run").mkdir()
    write_config(folder / "run", config)
    data = prepare(read_dataset(folder / "data"), config.split)
    fit(config, data, folder / "run", QuietReporter())
    return load_run(folder / "run")


def export(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    return result.stdout + result.stderr + str(result.exception or "")


def test_a_bundle_takes_rules_that_fit_its_items(run: Run, tmp_path: Path) -> None:
    items = run.data.dataset.items
    assert items is not None
    column = next(name for name in items.columns if name not in ("item_id", "name"))
    item = run.data.split.vocabulary.item_ids[0]
    path = tmp_path / "mine.toml"
    path.write_text(
        f'format = 1\n[[deny]]\nitems = ["{item}", "Z"]\n[[at_most]]\nper = "{column}"\nn = 2\n'
    )
    assert rules_of(path, run).unknown_items == 1
    told = export("bundle", run.folder, "--out", tmp_path / "with", "--rules", path)
    assert f"Note: items that {path} names and the run doesn't know: 1" in told
    export("bundle", run.folder, "--out", tmp_path / "without")
    with_, without = (read_bundle(tmp_path / name) for name in ("with", "without"))
    assert (with_.rules(), without.rules()) == (path.read_text(), None)
    assert with_.manifest.release != without.manifest.release
    assert with_.manifest.space == without.manifest.space
    path.write_text('format = 1\n[[at_most]]\nper = "size"\nn = 2\n')
    with pytest.raises(DataError, match="at_most 1: per: the items have no column 'size'; allowed"):
        rules_of(path, run)
    assert "the items have no column 'size'" in export(
        "bundle", run.folder, "--out", tmp_path / "bad", "--rules", path
    )
    assert not (tmp_path / "bad").exists()


def test_rules_reach_a_kiosk_by_sync_and_go_with_the_next_release(tmp_path: Path) -> None:
    place = make_place(tmp_path)

    def best() -> list[str]:
        recommender = Recommender.open(place.home)
        answer = recommender.recommend(CUSTOMER, k=40)
        recommender.close()
        assert recommender.warnings == []
        return [item.item_id for item in answer.items]

    before = best()
    made = place.head.releases[0]
    for number, rules in enumerate(({"deny": [{"items": before[:2]}]}, None), start=2):
        folder = made.folder
        (folder / "rules.toml").unlink(missing_ok=True)
        if rules:
            (folder / "rules.toml").write_text(to_toml(rules))
        rename(folder, f"2020-07-27-{number:08x}")
        published = publish(folder, place.head.repo, place.head.keys)
        assert published.deltas == 0, "customers stay as they are"
        assert place.sync().outcome == "installed"
        assert best() == (before[2:] if rules else before)


def rename(folder: Path, name: str) -> None:
    """Give a bundle another name, and bring its digests up to date."""
    reseal(folder, lambda document: document.update(release=name))


def test_the_example_of_the_page_is_right_and_runs(tmp_path: Path) -> None:
    assert EXAMPLE is not None
    rules = check_rules(EXAMPLE[1], file="docs/rules.md", origin="store")
    assert rules.columns == {"category", "brand", "season"}
    tables = ("deny", "allow", "weigh", "bought", "at_most")
    assert all(getattr(rules, name) for name in tables)
    singles = (rules.diversity, rules.repeats, rules.unknown_stock, rules.least_stock)
    assert singles == (0.2, 3, "shown", 1)
    shop = make_shop(tmp_path / "bundle")
    rows = [row | {"season": "2019", "category": "socks"} for row in rows_of(shop)]
    (shop.folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reseal(shop.folder)
    install(shop.folder, tmp_path / "home")
    (tmp_path / "home" / "rules.toml").write_text(EXAMPLE[1])
    recommender = Recommender.open(tmp_path / "home")
    answer = recommender.recommend(CUSTOMER, k=10)
    recommender.close()
    assert recommender.warnings == []
    assert len(answer.items) == 3, "at most n per category"
    assert "more of a kind than are shown" in answer.notes[-1].words()
