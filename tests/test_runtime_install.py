"""Bundles and homes, good and bad: an install happens whole or not at all."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from c2rec.runtime.bundle import read_bundle
from c2rec.runtime.cache import Cache
from c2rec.runtime.disk import generation_path, only_one
from c2rec.runtime.errors import HomeError, ReleaseError
from c2rec.runtime.install import install
from c2rec.runtime.manifest import parse_manifest
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.state import find_state, read_state
from tests.release import Release, change_tensor, make_release, reseal

OLD, NEW = "2020-07-27-00000001", "2020-08-27-00000002"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with release OLD in it, and bundles of OLD and NEW beside."""
    folder = tmp_path_factory.mktemp("made")
    make_release(folder / "old", name=OLD)
    make_release(folder / "new", name=NEW, seed=1)
    install(folder / "old", folder / "home")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(made, tmp_path / "place")


def files_of(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def assert_old_serves(home: Path) -> None:
    assert files_of(home) == {"lock", "state.db", f"gen/{OLD}.db"}
    recommender = Recommender.open(home)
    answer = recommender.recommend("c000003")
    recommender.close()
    assert (answer.release, answer.tier, len(answer.items)) == (OLD, "personal", 10)


# --- good installs


def test_every_array_and_customer_comes_back_as_released(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", items=300, customers=2100)  # two blocks
    install(release.folder, tmp_path / "home")
    cache = Cache(generation_path(tmp_path / "home", OLD))
    for name, values in release.items.items():
        np.testing.assert_array_equal(cache.array(name), values)
        assert cache.array(name).dtype == values.dtype
    for row in (0, 1, 2047, 2048, 2099):
        customer = cache.customer(release.customer_ids[row])
        assert customer is not None
        np.testing.assert_array_equal(customer.components, release.customers["components"][row])
        assert customer.has.tolist() == release.customers["has"][row].astype(bool).tolist()
        bought = zip(customer.history_items.tolist(), customer.history_channels.tolist())
        assert list(bought) == release.history(row)
    assert cache.item_row("été") == 299
    assert cache.manifest == read_bundle(release.folder).manifest
    cache.close()


def test_one_item_and_one_customer_are_a_release(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", items=3, customers=2, size=1)
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    assert len(recommender.recommend("c000001").items) < 3
    recommender.close()


def test_only_the_active_and_the_previous_generation_stay(place: Path) -> None:
    third = make_release(place / "third", name="third", seed=2).folder
    assert install(place / "new", place / "home").previous == OLD
    installed = install(third, place / "home")
    assert (installed.release, installed.previous, installed.changed) == ("third", NEW, True)
    expected = {"lock", "state.db", "gen/third.db", f"gen/{NEW}.db"}
    assert files_of(place / "home") == expected


def test_the_previous_release_can_be_installed_again(place: Path) -> None:
    install(place / "new", place / "home")
    installed = install(place / "old", place / "home")
    assert (installed.release, installed.previous) == (OLD, NEW)


def test_installing_the_active_release_changes_nothing(place: Path) -> None:
    before = (place / "home" / "state.db").read_bytes()
    installed = install(place / "old", place / "home")
    assert (installed.release, installed.changed) == (OLD, False)
    assert (place / "home" / "state.db").read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "flipped bit"])
def test_installing_the_active_release_repairs_it(place: Path, damage: str) -> None:
    path = generation_path(place / "home", OLD)
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert install(place / "old", place / "home").changed
    assert_old_serves(place / "home")


def test_a_reader_of_a_removed_generation_goes_on(place: Path) -> None:
    recommender = Recommender.open(place / "home")
    install(place / "new", place / "home")
    install(make_release(place / "third", name="third").folder, place / "home")
    assert recommender.recommend("c000003").release == OLD
    recommender.close()


# --- bad bundles


def set_field(*path: str, to: Any) -> Callable[[Path], None]:
    def change(document: dict[str, Any]) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = to

    return lambda folder: reseal(folder, change)


def drop_field(name: str) -> Callable[[Path], None]:
    return lambda folder: reseal(folder, lambda document: document.pop(name))


def list_file(name: str) -> Callable[[Path], None]:
    return set_field("files", name, to={"sha256": "0" * 64, "bytes": 1})


def set_value(file: str, tensor: str, at: tuple[int, ...], value: float) -> Callable[[Path], None]:
    def change(values: Any) -> Any:
        values[at] = value
        return values

    return lambda folder: change_tensor(folder, f"{file}.safetensors", tensor, change)


def reshape(file: str, tensor: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: change_tensor(folder, f"{file}.safetensors", tensor, change)


def set_line(file: str, number: int, line: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = (folder / file).read_text().splitlines()
        lines[number : number + 1] = [line] if line else []
        (folder / file).write_text("".join(f"{line}\n" for line in lines))
        reseal(folder)

    return change


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "items.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "items.safetensors").write_bytes(content)


def link_a_file(folder: Path) -> None:
    (folder / "items.jsonl").rename(folder.parent / "elsewhere")
    (folder / "items.jsonl").symlink_to(folder.parent / "elsewhere")


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def write_and_seal(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)
        reseal(folder)

    return change


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def make_it_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def cut_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def add_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "items.safetensors")
    save_file(tensors | {"extra": tensors["item_bias"]}, folder / "items.safetensors")
    reseal(folder)


def repeat_a_purchase(folder: Path) -> None:
    def change(items: Any) -> Any:
        items[1] = items[0]  # both of customer 1, in the store
        return items

    change_tensor(folder, "customers.safetensors", "history_items", change)


BAD = {
    "a changed byte": (flip_a_byte, r"items\.safetensors is damaged: its sha256 is"),
    "bytes appended": (write("items.jsonl", b"{}"), r"items\.jsonl has 2 bytes; manifest\.json"),
    "a file missing": (lambda f: (f / "items.jsonl").unlink(), r"items\.jsonl is listed .* miss"),
    "a file extra": (write("notes.txt", b"x"), r"'notes\.txt' is in the bundle but not listed"),
    "a folder extra": (lambda f: (f / "sub").mkdir(), r"'sub' is in the bundle but not listed"),
    "a link": (link_a_file, r"items\.jsonl is not a regular file"),
    "no folder": (shutil.rmtree, r"is not a folder with a bundle: No such file"),
    "a file for a folder": (make_it_a_file, r"is not a folder with a bundle: Not a directory"),
    "an empty folder": (empty, r"holds no manifest\.json"),
    "a cut manifest": (cut_manifest, r"manifest\.json is not valid JSON"),
    "a manifest of no UTF-8": (write("manifest.json", b"\xff"), r"is not valid JSON"),
    "a deep manifest": (write("manifest.json", b"[" * 100_000), r"is not valid JSON"),
    "a long manifest": (write("manifest.json", b" " * (2 << 20)), r"longer than the 1048576"),
    "a manifest of a list": (write("manifest.json", b"[]"), r"document is \[\]; allowed: an obj"),
    "a newer format": (set_field("format", to=2), r"format is 2, newer .* upgrade"),
    "format 0": (set_field("format", to=0), r"format is 0; allowed: a whole number from 1 to 1"),
    "format true": (set_field("format", to=True), r"format is True; allowed"),
    "a path for a name": (list_file("../evil"), r"file name is '\.\./evil'; allowed: 1 to 100"),
    "an absolute name": (list_file("/etc/x"), r"file name is '/etc/x'; allowed"),
    "a backslash": (list_file("a\\b"), r"file name is 'a\\\\b'; allowed"),
    "a file unknown": (list_file("notes.txt"), r"'notes\.txt' is not a file of format 1"),
    "a file unlisted": (
        lambda f: reseal(f, lambda d: d["files"].pop("scorer.onnx")),
        r"files: 'scorer\.onnx' is missing",
    ),
    "a path for a release": (set_field("release", to="../x"), r"release is '\.\./x'; allowed"),
    "a short digest": (
        set_field("files", "scorer.onnx", "sha256", to="ab"),
        r"files\.scorer\.onnx\.sha256 is 'ab'; allowed: 64 lower-case hex digits",
    ),
    "a size in words": (
        set_field("files", "scorer.onnx", "bytes", to="9"),
        r"files\.scorer\.onnx\.bytes is '9'; allowed: a whole number",
    ),
    "an entry of null": (set_field("files", "scorer.onnx", to=None), r"files\.scorer\.onnx is No"),
    "a field missing": (drop_field("counts"), r"manifest\.json: counts is missing"),
    "a list for an object": (set_field("counts", to=[]), r"counts is \[\]; allowed: an object"),
    "no items": (set_field("counts", "items", to=0), r"counts\.items is 0; allowed: a whole"),
    "huge counts": (set_field("counts", "items", to=10**12), r"counts\.items is 10+; allowed"),
    "huge embeddings": (set_field("embedding_size", to=10**9), r"embedding_size is 10+; allowed"),
    "half an item": (set_field("counts", "items", to=1.5), r"counts\.items is 1\.5; allowed"),
    "an encoder unknown": (set_field("encoder", to="gpt"), r"encoder is 'gpt'; allowed: 'history'"),
    "an encoder of a list": (set_field("encoder", to=["table"]), r"encoder is \['table'\]"),
    "a day that is none": (set_field("data", "to", to="2020-02-31"), r"data\.to is '2020-02-31'"),
    "a week for a day": (set_field("data", "to", to="2020-W30-1"), r"data\.to is '2020-W30-1'"),
    "days backwards": (set_field("data", "from", to="2021-01-01"), r"data\.from is .* a day up to"),
    "a moment elsewhere": (
        set_field("created_at", to="2026-01-31T09:30:00+01:00"),
        r"created_at is .*; allowed: a time in UTC",
    ),
    "a producer that colours": (set_field("producer", to="\x1b[31m"), r"producer is '\\x1b\[31m'"),
    "more items counted": (
        set_field("counts", "items", to=41),
        r"tensor 'item_embeddings' is float32 \(40, 8\); allowed: float32 \(41, 8\)",
    ),
    "a wrong shape": (
        reshape("items", "item_bias", lambda a: a[:, :-1]),
        r"tensor 'item_bias' is float32 \(2, 39\); allowed: float32 \(2, 40\)",
    ),
    "a wrong rank": (
        reshape("golden", "has", lambda a: a[0]),
        r"tensor 'has' is uint8 \(3,\); allowed: uint8 \(6, 3\)",
    ),
    "golden of two lengths": (
        reshape("golden", "top_scores", lambda a: a[:, :-1]),
        r"tensor 'top_scores' is float32 \(2, 5, 10\); allowed: float32 \(2, 6, 10\)",
    ),
    "a wrong dtype": (
        reshape("items", "item_bias", lambda a: a.astype(np.float64)),
        r"tensor 'item_bias' is F64 \(2, 40\); allowed: float32 \(2, 40\)",
    ),
    "a tensor extra": (add_a_tensor, r"tensor 'extra' is not a tensor of format 1"),
    "no safetensors": (
        write_and_seal("items.safetensors", b"x" * 99),
        r"items\.safetensors: can't be read",
    ),
    "a pickle": (
        write_and_seal("items.safetensors", b"\x80\x04N."),
        r"items\.safetensors: can't be read",
    ),
    "NaN embeddings": (
        set_value("items", "item_embeddings", (7, 3), np.nan),
        r"tensor 'item_embeddings' at \[7, 3\] is nan; allowed: finite numbers",
    ),
    "infinite components": (
        set_value("customers", "components", (29, 2, 0), np.inf),
        r"tensor 'components' at \[29, 2, 0\] is inf",
    ),
    "flags of 2": (set_value("customers", "has", (5, 0), 2), r"'has' at \[5, 0\] is 2; allowed"),
    "an item out of range": (
        set_value("customers", "history_items", (0,), 40),
        r"tensor 'history_items' at \[0\] is 40; allowed: whole numbers from 0 to 39",
    ),
    "a third channel": (set_value("customers", "history_channels", (0,), 2), r"at \[0\] is 2"),
    "less than nothing sold": (set_value("items", "popularity", (1, 1), -1), r"\[1, 1\] is -1"),
    "offsets that fall": (
        set_value("customers", "history_offsets", (4,), 0),
        r"'history_offsets' falls after row 3",
    ),
    "offsets that start late": (
        set_value("customers", "history_offsets", (0,), 1),
        r"'history_offsets' (starts at 1|falls)",
    ),
    "offsets that end early": (
        set_value("customers", "history_offsets", (30,), 0),
        r"'history_offsets' (ends|falls)",
    ),
    "a purchase twice": (repeat_a_purchase, r"customer row 1 has item row \d+ twice in channel 0"),
    "a golden item out of range": (
        set_value("golden", "top_items", (0, 0, 0), -1),
        r"tensor 'top_items' at \[0, 0, 0\] is -1",
    ),
    "a row of a list": (set_line("items.jsonl", 2, "[]"), r"items\.jsonl:3: \[\]; allowed: an obj"),
    "a number for a text": (
        set_line("items.jsonl", 2, '{"item_id": "i000002", "name": "x", "price": 3}'),
        r"items\.jsonl:3: .* allowed: an object of strings",
    ),
    "a row without name": (
        set_line("items.jsonl", 2, '{"item_id": "i000002"}'),
        r"items\.jsonl:3: item_id or name is missing",
    ),
    "a row cut": (set_line("items.jsonl", 2, '{"item'), r"items\.jsonl:3 is not valid JSON"),
    "a row too few": (set_line("items.jsonl", 39, ""), r"items\.jsonl has 39 rows; .* counts 40"),
    "a customer too many": (
        set_line("customers.jsonl", 30, '"z"'),
        r"customers\.jsonl has more than the 30 rows counted",
    ),
    "a customer of a number": (
        set_line("customers.jsonl", 1, "7"),
        r"customers\.jsonl:2: 7; allow",
    ),
    "an id twice": (
        set_line("customers.jsonl", 1, '"c000000"'),
        r"customers\.jsonl:2: id 'c000000' after 'c000000'; allowed: .* each once",
    ),
    "ids unsorted": (
        set_line("items.jsonl", 1, '{"item_id": "z", "name": ""}'),
        r"items\.jsonl:3: id 'i000002' after 'z'",
    ),
    "an empty id": (set_line("customers.jsonl", 0, '""'), r"customers\.jsonl:1: id ''"),
    "half a surrogate pair": (
        set_line("customers.jsonl", 29, '"\\ud800"'),
        r"customers\.jsonl:30: .* is not valid Unicode",
    ),
    "a graph that is none": (
        write_and_seal("scorer.onnx", b"no graph"),
        r"scorer\.onnx: onnxruntime can't load it",
    ),
    "another graph's inputs": (
        lambda f: write_and_seal("scorer.onnx", (f / "encoder.onnx").read_bytes())(f),
        r"onnxruntime can't run the release's graph",
    ),
    "golden scores that differ": (
        set_value("golden", "top_scores", (1, 2, 9), -50),
        r"golden customer 2, channel online: scores differ .* instead of -50\.0, allowed within",
    ),
    "golden attention that differs": (
        set_value("golden", "top_attention", (0, 3, 0, 1), 2),
        r"golden customer 3, channel offline: attention differ",
    ),
    "golden histories that differ": (
        set_value("golden", "components", (4, 0, 0), 9),
        r"golden histories: components differ",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_bundle_is_refused_and_the_old_release_serves_on(place: Path, what: str) -> None:
    spoil, message = BAD[what]
    spoil(place / "new")
    with pytest.raises(ReleaseError, match=message):
        install(place / "new", place / "home")
    assert_old_serves(place / "home")


def test_a_bad_bundle_leaves_no_home_behind(place: Path) -> None:
    flip_a_byte(place / "new")
    with pytest.raises(ReleaseError):
        install(place / "new", place / "other")
    assert not (place / "other").exists()


def test_golden_items_whose_scores_tie_may_swap(place: Path) -> None:
    """Two items alike: which of them comes first is not the release's to say."""

    def twin(values: Any) -> Any:
        values[..., 1] = values[..., 0]
        return values

    for name in ("item_bias", "attention_bias"):
        change_tensor(place / "new", "items.safetensors", name, twin)
    change_tensor(
        place / "new", "items.safetensors", "item_embeddings", lambda a: twin(a.T.copy()).T
    )
    golden = load_file(place / "new" / "golden.safetensors")
    with pytest.raises(ReleaseError, match="differ"):  # what ranked before ranks no more
        install(place / "new", place / "home")
    made = make_release(place / "twins", name="twins", seed=1)
    shutil.copy(place / "new" / "items.safetensors", made.folder)
    made.items.update(load_file(made.folder / "items.safetensors"))
    for channel in (0, 1):
        for row in range(6):
            scores, alphas = made.score(golden["components"][row], golden["has"][row], channel)
            best = sorted(range(40), key=lambda item: (-scores[item], -item))[:10]  # 1 before 0
            golden["top_items"][channel, row] = best
            golden["top_scores"][channel, row] = scores[best]
            golden["top_attention"][channel, row] = alphas[:, best].T
    assert 0 in golden["top_items"], "or the test shows nothing"
    save_file(golden, made.folder / "golden.safetensors")
    reseal(made.folder)
    assert install(made.folder, place / "home").changed


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.data(),
)
def test_whatever_a_manifest_says_it_is_read_or_refused(
    made: Path, value: object, data: st.DataObject
) -> None:
    document = json.loads((made / "new" / "manifest.json").read_text())
    target = document
    while True:
        name = data.draw(st.sampled_from(sorted(target)))
        if not isinstance(target[name], dict) or data.draw(st.booleans()):
            break
        target = target[name]
    target[name] = value
    try:
        manifest = parse_manifest(json.dumps(document))
    except ReleaseError as error:
        assert str(error).startswith("manifest.json")
    else:
        assert parse_manifest(manifest.to_json()) == manifest


@settings(deadline=None)
@given(st.binary() | st.text())
def test_whatever_a_manifest_is_made_of_it_is_refused(content: bytes | str) -> None:
    with pytest.raises(ReleaseError):
        parse_manifest(content)


# --- bad homes


def file_for_a_home(home: Path) -> None:
    shutil.rmtree(home)
    home.write_text("")


def file_for_gen(home: Path) -> None:
    shutil.rmtree(home / "gen")
    (home / "gen").write_text("")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (file_for_a_home, "can't write to the home folder .*: File exists"),
        (file_for_gen, "can't write to the home folder .*: File exists"),
        (lambda home: (home / "state.db").write_text("no database" * 99), "file is not a database"),
    ],
)
def test_a_home_that_cannot_be_used_is_one_clear_error(
    place: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(place / "home")
    with pytest.raises(HomeError, match=message):
        install(place / "new", place / "home")


def test_a_home_that_cannot_be_made_is_one_clear_error(made: Path) -> None:
    with pytest.raises(HomeError, match="can't write to the home folder /proc/c2rec: No such file"):
        install(made / "new", Path("/proc/c2rec"))


def test_a_second_install_at_the_same_time_is_refused(place: Path) -> None:
    with (
        only_one(place / "home"),
        pytest.raises(HomeError, match="another install is running in .*; wait"),
    ):
        install(place / "new", place / "home")
    assert_old_serves(place / "home")


@pytest.mark.parametrize("damage", ["missing", "no SQLite", "another database", "empty"])
def test_a_generation_that_cannot_be_read_gives_way_to_the_previous(
    place: Path, damage: str
) -> None:
    install(place / "new", place / "home")
    for release in (NEW, OLD):
        path = generation_path(place / "home", release)
        path.unlink()
        if damage == "no SQLite":
            path.write_text("no database" * 99)
        elif damage == "another database":
            with closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE manifest (json)")
                db.commit()
        elif damage == "empty":
            path.touch()
        if release == NEW:
            recommender = Recommender.open(place / "home")
            assert recommender.recommend("c000003").release == OLD
            assert "install the release again: c2rec-kiosk" in str(recommender.fallback)
            recommender.close()
    with pytest.raises(HomeError, match=f"{NEW}.db"):
        Recommender.open(place / "home")


# --- interruptions

INSTALL = """
import sys
from pathlib import Path
{prelude}
from c2rec.runtime.install import install
install(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def start_install(bundle: Path, home: Path, prelude: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", INSTALL.format(prelude=prelude), str(bundle), str(home)],
        stderr=subprocess.PIPE,
    )


def test_killed_at_any_moment_the_old_release_serves_on(place: Path) -> None:
    """Kill an install at random moments, from its first write on, until one gets through."""
    rng, home, killed = random.Random(7), place / "home", 0
    big = make_release(place / "big", items=3000, customers=6000, size=16, name=NEW).folder
    for _ in range(12):
        (home / "lock").unlink(missing_ok=True)
        process = start_install(big, home)
        while not (home / "lock").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        recommender = Recommender.open(home)
        assert recommender.recommend("c000003").tier == "personal"
        assert recommender.fallback is None
        recommender.close()
        if read_state(home).active.release == NEW:
            install(place / "old", home)
    assert killed, "or the test shows nothing"
    assert install(big, home).release == NEW
    assert files_of(home) == {"lock", "state.db", f"gen/{OLD}.db", f"gen/{NEW}.db"}


@pytest.mark.parametrize("step", ["build_cache", "check_golden", "sha256_of", "activate"])
def test_ended_at_a_step_the_next_install_succeeds(place: Path, step: str) -> None:
    """``os._exit`` in the middle is what a power cut is to the process."""
    prelude = (
        f"import os; import c2rec.runtime.install as i; i.{step} = lambda *a, **k: os._exit(9)"
    )
    process = start_install(place / "new", place / "home", prelude)
    process.communicate(timeout=60)
    assert process.returncode == 9
    state = find_state(place / "home")
    assert state is not None
    assert state.active.release == OLD
    assert install(place / "new", place / "home").release == NEW
    assert files_of(place / "home") == {"lock", "state.db", f"gen/{OLD}.db", f"gen/{NEW}.db"}


def test_an_interrupted_first_flip_is_no_release(tmp_path: Path, made: Path) -> None:
    (tmp_path / "state.db").touch()
    assert find_state(tmp_path) is None
    assert install(made / "old", tmp_path).changed


@pytest.mark.parametrize("limit", [0, 20_000, 200_000])
def test_a_full_disk_is_one_clear_error(place: Path, limit: int) -> None:
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    big = make_release(place / "big", items=3000, customers=3000, size=16, name=NEW).folder
    process = start_install(big, place / "home", prelude)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "HomeError: can't write to the home folder" in stderr.decode().splitlines()[-1]
    assert_old_serves(place / "home")


def test_too_little_space_is_told_before_anything_is_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HomeError, match=r"has 1 MiB free; release .* needs 16 MiB"):
        install(place / "new", place / "home")
    assert_old_serves(place / "home")


def test_a_cut_in_the_middle_of_a_flip_is_rolled_back_by_the_next_reader(place: Path) -> None:
    """A hot journal beside state.db, as SIGKILL leaves it."""
    path = place / "home" / "state.db"
    script = (
        "import sqlite3, os, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('PRAGMA cache_size = 1')\n"  # so that pages are written before the commit
        "db.execute('PRAGMA cache_spill = 1')\n"
        "db.execute('UPDATE generations SET release = ?', ['x' * 200_000])\n"
        "os._exit(9)\n"
    )
    process = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert process.returncode == 9
    assert os.path.getsize(f"{path}-journal") > 0
    assert read_state(place / "home").active.release == OLD


def test_the_release_helper_reads_as_it_was_written(made: Path, tmp_path: Path) -> None:
    release: Release = make_release(tmp_path / "bundle", encoder="table")
    assert read_bundle(release.folder).manifest.encoder == "table"
    assert read_bundle(made / "old").manifest.encoder == "history"
