"""A kiosk whose release carries an experiment: who is answered by what, and what damage does."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from c2rec.runtime.answer import Answer
from c2rec.runtime.erasure.erase import erase
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.events.batches import parse_batch
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.disk import generation_path, kept_path
from c2rec.runtime.home.identity import identity_path
from c2rec.runtime.home.settings import changed, read_settings, settings_path
from c2rec.runtime.home.state import read_state
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS
from c2rec.runtime.release.experiment import assign
from c2rec.runtime.release.install import install
from c2rec.runtime.sync.sync import sync
from c2rec.store_kiosk.bench import bench_release
from c2rec.store_kiosk.cli import main as kiosk_main
from c2rec.store_kiosk.doctor import diagnose
from tests.enrolled import Kiosk, enrol, lists_for, publish_lists
from tests.experiments import NAME, SHARES, add_experiment
from tests.homes import files_of
from tests.kiosks import make_identity
from tests.release import Release, change_tensor, make_release
from tests.repositories import make_head

CALIBRATION: dict[str, Any] = {channel: {"slope": 1.0, "intercept": -3.0} for channel in CHANNELS}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Release, Path]:
    """A release, that of its challenger, and a home that has it."""
    folder = tmp_path_factory.mktemp("made")
    release = make_release(folder / "bundle")
    other = add_experiment(release.folder)["challenger"]
    install(release.folder, folder / "home")
    return release, other, folder / "home"


@pytest.fixture
def home(made: tuple[Release, Release, Path], tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made[2], tmp_path / "home"))


@pytest.fixture
def recommender(home: Path) -> Iterator[Recommender]:
    opened = Recommender.open(home)
    yield opened
    opened.close()


def in_arm(arm: str, *, known: bool = True) -> list[str]:
    """Customers of an arm, as a kiosk that was never enrolled has them."""
    numbers = range(3, 30) if known else range(900, 990)
    ids = [f"c{n:06}" for n in numbers]
    found = [each for each in ids if assign(NAME, SHARES, each) == arm]
    assert len(found) > 3
    return found


def best_of(model: Release, release: Release, customer: int, channel: int) -> list[str]:
    """The best 10 of a customer of ``release`` by another model, by the formula."""
    history = release.history(customer)
    scores, _ = model.score(*model.encode(history), channel, history)
    scores[[item for item, where in history if where == channel]] = -np.inf
    return [release.item_ids[row] for row in np.argsort(-scores, kind="stable")[:10]]


def ids_of(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items]


# --- who is answered by what


def test_each_customer_is_answered_by_the_model_of_their_arm(
    made: tuple[Release, Release, Path], recommender: Recommender
) -> None:
    release, other, _ = made
    for arm, model in (("main", release), ("challenger", other)):
        for customer in in_arm(arm):
            for number, channel in enumerate(CHANNELS):
                answer = recommender.recommend(customer, channel=channel)
                assert (answer.arm, answer.model) == (f"spring/{arm}", arm)
                assert (answer.tier, answer.path) == ("personal", "offline")
                expected = best_of(model, release, int(customer[1:]), number)
                assert ids_of(answer) == expected
    assert recommender.warnings == []


def test_a_basket_counts_for_the_arm_s_model(
    made: tuple[Release, Release, Path], recommender: Recommender
) -> None:
    release, other, _ = made
    customer = in_arm("challenger")[0]
    history = release.history(int(customer[1:]))
    row = next(row for row in range(38) if (row, 0) not in history)
    answer = recommender.recommend(customer, basket=[release.item_ids[row]])
    history.append((row, 0))
    scores, _ = other.score(*other.encode(history), 0, history)
    scores[[item for item, where in history if where == 0]] = -np.inf
    expected = np.argsort(-scores, kind="stable")[:10]
    assert ids_of(answer) == [release.item_ids[row] for row in expected]
    got = [item.score for item in answer.items]
    np.testing.assert_allclose(got, scores[expected], atol=1e-5, rtol=1e-5)


def test_a_holdout_is_shown_what_sells_but_nothing_they_have(
    made: tuple[Release, Release, Path], recommender: Recommender
) -> None:
    release = made[0]
    sold = release.items["popularity"][0]
    for customer in in_arm("holdout"):
        answer = recommender.recommend(customer)
        assert (answer.arm, answer.model) == ("spring/holdout", None)
        assert (answer.tier, answer.path) == ("store-popular", "offline")
        history = release.history(int(customer[1:]))
        left = sold.copy()
        left[[item for item, channel in history if channel == 0]] = -1
        expected = np.argsort(-left, kind="stable")[:10]
        assert ids_of(answer) == [release.item_ids[row] for row in expected]


@pytest.mark.parametrize("arm", SHARES)
def test_who_is_not_known_is_in_an_arm_all_the_same(recommender: Recommender, arm: str) -> None:
    """Else those that a model can't answer would be missing from one arm's figures."""
    answer = recommender.recommend(in_arm(arm, known=False)[0])
    assert (answer.arm, answer.model, answer.tier) == (f"spring/{arm}", None, "store-popular")
    basket = recommender.recommend(in_arm(arm, known=False)[0], basket=["i000001"])
    assert basket.arm == f"spring/{arm}"
    assert basket.model == (None if arm == "holdout" else arm)
    assert basket.tier == ("store-popular" if arm == "holdout" else "basket")


def test_a_request_of_nobody_is_in_no_arm(recommender: Recommender) -> None:
    assert recommender.recommend().arm is None
    answer = recommender.recommend(basket=["i000001"])
    assert (answer.arm, answer.model, answer.tier) == (None, "main", "basket")


def test_a_release_without_an_experiment_has_no_arms(tmp_path: Path) -> None:
    install(make_release(tmp_path / "bundle").folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    answer = recommender.recommend("c000003")
    recommender.close()
    assert (answer.arm, answer.model) == (None, "main")


def test_a_main_model_with_a_table_may_have_an_arm_that_encodes(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", encoder="table")
    other = add_experiment(release.folder)["challenger"]

    def forget(has: Any) -> Any:
        """A history, but nothing that the table has learned of it."""
        has[[int(in_arm(arm)[-1][1:]) for arm in ("main", "challenger")]] = 0
        return has

    change_tensor(release.folder, "customers.safetensors", "has", forget)
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    for arm in ("main", "challenger"):
        for customer in in_arm(arm):
            row = int(customer[1:])
            answer = recommender.recommend(customer)
            if arm == "main" and customer == in_arm(arm)[-1]:
                assert (answer.model, answer.tier) == (None, "store-popular")
                continue
            assert (answer.model, answer.tier) == (arm, "personal")
            if arm == "challenger":
                assert ids_of(answer) == best_of(other, release, row, 0)
    recommender.close()


def test_who_the_release_knows_is_known_whatever_their_arm(recommender: Recommender) -> None:
    assert all(recommender.knows(customer) for arm in SHARES for customer in in_arm(arm))
    assert not recommender.knows("c000000")  # bought nothing
    assert not recommender.knows("c999999")


def test_one_filter_serves_every_arm_of_a_large_catalogue(tmp_path: Path) -> None:
    """Each engine has the items in an order of its own, in which a filter is prepared."""
    items = 11_000  # so many are scanned
    release = make_release(tmp_path / "bundle", items=items, size=64)
    other = add_experiment(release.folder, items=items, size=64)["challenger"]
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    gone = np.random.default_rng(3).permutation(items)[: items // 2]
    shown = recommender.shown(without=[release.item_ids[row] for row in gone])
    for mine, theirs in zip(in_arm("main")[:5], in_arm("challenger")[:5], strict=True):
        for model, customer in ((release, mine), (other, theirs)):
            history = release.history(int(customer[1:]))
            scores, _ = model.score(*model.encode(history), 0, history)
            scores[gone] = -np.inf
            scores[[item for item, channel in history if channel == 0]] = -np.inf
            expected = np.argsort(-scores, kind="stable")[:10]
            answer = recommender.recommend(customer, shown=shown)
            got = [item.score for item in answer.items]
            np.testing.assert_allclose(got, scores[expected], atol=1e-5, rtol=1e-5)
            assert not {release.item_ids[row] for row in gone} & set(ids_of(answer))
    assert recommender.warnings == []
    recommender.close()


def test_a_benchmark_measures_the_main_model_alone(home: Path) -> None:
    told: list[str] = []
    document = bench_release(home, k=5, requests=4, seed=1, report=told.append)
    assert document["exact"]
    recommender = Recommender.to_measure(home)
    assert {recommender.recommend(each).model for each in in_arm("holdout")} == {"main"}
    recommender.close()


def test_a_process_tries_itself_out_by_the_main_model(tmp_path: Path) -> None:
    """Whoever it is for: nearly everybody is shown what sells here."""
    release = make_release(tmp_path / "bundle")
    add_experiment(release.folder, shares={"main": 0.0001, "holdout": 0.9999}, own={})
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    tried = recommender.try_out()
    assert (tried.tier, tried.model, tried.arm) == (
        "basket",
        "main",
        None,
    )  # the first bought nothing
    assert recommender.recommend("c000003").arm == "spring/holdout"
    recommender.close()


# --- what an operator reads


def run(home: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(kiosk_main, ["--home", str(home), *arguments])
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def test_the_command_tells_the_arm(home: Path) -> None:
    customer = in_arm("challenger")[0]
    told = run(home, "recommend", customer, "--json")
    assert (told["arm"], told["model"]) == ("spring/challenger", "challenger")
    assert "\nArm spring/challenger\n" in run(home, "recommend", customer)
    told = run(home, "recommend", in_arm("holdout")[0], "--json")
    assert (told["arm"], told["model"]) == ("spring/holdout", None)
    assert "\nArm spring/holdout\n" in run(home, "recommend", in_arm("holdout")[0])
    assert "Arm" not in run(home, "recommend")
    assert run(home, "recommend", "--json")["arm"] is None


def test_status_names_the_experiment_and_its_arms(home: Path, tmp_path: Path) -> None:
    assert run(home, "status", "--json")["experiment"] == {
        "name": "spring",
        "arms": [
            {"name": "main", "share": 0.5, "serves": "main"},
            {"name": "challenger", "share": 0.3, "serves": "own"},
            {"name": "holdout", "share": 0.2, "serves": "popular"},
        ],
    }
    arms = (
        "main 50 % by the main model, challenger 30 % by its own model, holdout 20 % by what sells"
    )
    assert f"spring: {arms}\n" in run(home, "status")
    install(make_release(tmp_path / "plain").folder, tmp_path / "other")
    assert run(tmp_path / "other", "status", "--json")["experiment"] is None


# --- damage


def side_of(home: Path, bundle: Path) -> Path:
    """Where a kiosk has the challenger's item side."""
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    name = "challenger.items.safetensors"
    return kept_path(home / "gen", name, files[name]["sha256"])


def flip(path: Path) -> None:
    """Change one bit of an embedding, as a disk does: size and time stay."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "thorough"),
    [(Path.unlink, True), (Path.unlink, False), (cut, True), (cut, False), (flip, True)],
)
def test_an_arm_that_is_damaged_is_answered_by_the_main_model(
    made: tuple[Release, Release, Path],
    home: Path,
    damage: Callable[[Path], None],
    *,
    thorough: bool,
) -> None:
    """The customer stays in the arm, and the answer tells which model it was."""
    release = made[0]
    damage(side_of(home, release.folder))
    recommender = Recommender.open(home, thorough=thorough)
    for customer in in_arm("challenger"):
        answer = recommender.recommend(customer)
        assert (answer.arm, answer.model) == ("spring/challenger", "main")
        assert (answer.tier, answer.release) == ("personal", release.manifest.release)
        assert ids_of(answer) == best_of(release, release, int(customer[1:]), 0)
    (warning,) = recommender.warnings
    assert "challenger.items.safetensors" in warning
    assert warning.endswith("; the main model answers for arm challenger")
    assert recommender.recommend(in_arm("main")[0]).model == "main"
    assert recommender.recommend(in_arm("holdout")[0]).model is None
    assert len(recommender.warnings) == 1
    recommender.close()
    (finding,) = [each for each in diagnose(home) if "challenger" in each.text]
    assert (finding.check, finding.verdict) == ("release", "warning")
    assert finding.text.startswith("arm challenger of the active release is answered by the main")


def test_a_damaged_arm_is_told_in_the_answer(
    made: tuple[Release, Release, Path], home: Path
) -> None:
    side_of(home, made[0].folder).unlink()
    result = CliRunner().invoke(kiosk_main, ["--home", str(home), "recommend", "c000003"])
    assert result.exit_code == 0
    assert "\nArm spring/challenger, answered by the main model\n" in result.stdout
    assert "the main model answers for arm challenger" in result.stderr


def test_an_install_of_the_same_bundle_mends_a_damaged_arm(
    made: tuple[Release, Release, Path], home: Path
) -> None:
    bundle = made[0].folder
    assert not install(bundle, home).changed
    flip(side_of(home, bundle))
    serving = Recommender.open(home, thorough=True)
    assert serving.recommend("c000003").model == "main"
    assert install(bundle, home).changed
    assert serving.recommend("c000003").model == "challenger", "what serves follows"
    serving.close()
    assert not [each for each in diagnose(home) if "arm" in each.text.split()]


def test_what_was_mapped_before_a_repair_is_read_no_more(
    made: tuple[Release, Release, Path], home: Path
) -> None:
    """A disk changes bytes under a process that has them mapped."""
    release, other, _ = made
    customer = in_arm("challenger")[0]
    expected = best_of(other, release, int(customer[1:]), 0)
    serving = Recommender.open(home)
    assert ids_of(serving.recommend(customer)) == expected
    side = side_of(home, release.folder)
    with side.open("r+b") as file:  # in place: what is mapped stays so
        file.seek(-40 * 12 * 4, os.SEEK_END)
        file.write(np.random.default_rng(1).normal(size=40 * 12).astype(np.float32).tobytes())
    assert ids_of(serving.recommend(customer)) != expected, "or the test shows nothing"
    assert install(release.folder, home).changed
    assert ids_of(serving.recommend(customer)) == expected
    serving.close()


@pytest.mark.parametrize(
    ("tensor", "at", "message"),
    [
        ("top_scores", (1, 2, 9), r"arm challenger: golden customer 2, channel online: scores dif"),
        ("components", (4, 0, 0), r"arm challenger: golden histories: components differ"),
    ],
)
def test_an_arm_that_answers_otherwise_here_is_no_release(
    tmp_path: Path, tensor: str, at: tuple[int, ...], message: str
) -> None:
    def spoil(values: Any) -> Any:
        values[at] = -50
        return values

    install(make_release(tmp_path / "old").folder, tmp_path / "home")
    before = files_of(tmp_path / "home")
    new = make_release(tmp_path / "new", name="2020-08-27-00000002", seed=1)
    add_experiment(new.folder)
    change_tensor(new.folder, "challenger.golden.safetensors", tensor, spoil)
    with pytest.raises(ReleaseError, match=message):
        install(new.folder, tmp_path / "home")
    assert files_of(tmp_path / "home") == before


def test_arms_are_removed_with_their_release(tmp_path: Path) -> None:
    home, first = tmp_path / "home", make_release(tmp_path / "first")
    add_experiment(first.folder)
    install(first.folder, home)
    side = side_of(home, first.folder)
    for number in (2, 3):
        assert side.is_file()
        name = f"2020-08-27-{number:08}"
        install(make_release(tmp_path / name, name=name, seed=number).folder, home)
    assert not side.exists()
    assert len(files_of(home)) == len({"lock", "state.db", "state.json", "whole.json"}) + 4


# --- a kiosk that is enrolled

CUSTOMERS = 120
"""So many that each arm has some, whatever key the head office draws."""


@pytest.fixture
def enrolled(tmp_path: Path) -> Kiosk:
    """One whose release has an experiment, with a calibrated challenger."""
    head = make_head(tmp_path / "head", publish=False)
    head.publish(
        customers=CUSTOMERS, change=lambda folder: add_experiment(folder, calibration=CALIBRATION)
    )
    kiosk = enrol(head, tmp_path / "home")
    sync(kiosk.home)
    return kiosk


def of_arm(kiosk: Kiosk, arm: str) -> list[str]:
    """Customers of an arm, as all kiosks of the chain and head office tell them."""
    ids = [f"c{n:06}" for n in range(3, CUSTOMERS)]
    return [i for i in ids if assign(NAME, SHARES, kiosk.pseudonym(i).hex()) == arm]


def test_on_an_enrolled_kiosk_the_pseudonym_decides(enrolled: Kiosk) -> None:
    recommender = Recommender.open(enrolled.home)
    for arm in SHARES:
        for customer in of_arm(enrolled, arm):
            assert recommender.recommend(customer).arm == f"spring/{arm}"
    recommender.close()
    # so it does for a bundle that is installed by hand
    install(enrolled.head.releases[0].folder, enrolled.home)
    recommender = Recommender.open(enrolled.home)
    for arm in SHARES:
        assert recommender.recommend(of_arm(enrolled, arm)[0]).arm == f"spring/{arm}"
    recommender.close()


def test_what_a_till_records_has_the_arm_of_its_customer(enrolled: Kiosk) -> None:
    """Also where it isn't told; and a release that can't be read costs no purchase."""

    def record(*options: str) -> None:
        arguments = ["--home", str(enrolled.home), "record", "bought", "i000001", *options]
        assert CliRunner().invoke(kiosk_main, arguments).exit_code == 0

    for arm in SHARES:
        record("--customer", of_arm(enrolled, arm)[0])
    record("--customer", of_arm(enrolled, "main")[0], "--arm", "spring/challenger")
    record()
    generation_path(enrolled.home, read_state(enrolled.home).active.name).write_bytes(b"damaged")
    record("--customer", of_arm(enrolled, "main")[0])
    outbox = Outbox(enrolled.home, enrolled.identity)
    frozen = outbox.freeze()
    outbox.close()
    assert frozen is not None
    records = parse_batch(frozen.content, enrolled.identity.device_key).records
    told = [each.event.arm for each in records]
    assert told == [*(f"spring/{arm}" for arm in SHARES), "spring/challenger", None, None]


def test_without_its_identity_a_kiosk_assigns_nobody(enrolled: Kiosk) -> None:
    """It can't tell the arm that all other kiosks tell."""
    identity_path(enrolled.home).write_text("damaged")
    install(enrolled.head.releases[0].folder, enrolled.home.with_name("other"))
    shutil.copy(identity_path(enrolled.home), identity_path(enrolled.home.with_name("other")))
    for home in (enrolled.home, enrolled.home.with_name("other")):
        recommender = Recommender.open(home)
        assert recommender.recommend("c000003").arm is None
        recommender.close()


def test_a_release_that_ends_an_experiment_is_told_of(enrolled: Kiosk) -> None:
    told = list[str]()

    def publish(**bundle: Any) -> list[str]:
        told.clear()
        options = {"report": told.append}
        enrolled.head.publish(customers=CUSTOMERS, options=options, **bundle)
        return [line for line in told if line.startswith("Warning")]

    assert publish(seed=5, change=add_experiment) == []
    (warning,) = publish(seed=6)
    assert "release 2 carries the experiment 'spring', and this one doesn't" in warning
    assert publish(seed=7) == []


def test_the_arms_stay_from_release_to_release(enrolled: Kiosk) -> None:
    def arms() -> list[str | None]:
        recommender = Recommender.open(enrolled.home)
        found = [recommender.recommend(f"c{n:06}").arm for n in range(CUSTOMERS)]
        recommender.close()
        return found

    before = arms()
    enrolled.head.publish(
        seed=5,
        customers=CUSTOMERS,
        change=lambda folder: add_experiment(folder, own={"challenger": 9}, size=16),
    )
    assert sync(enrolled.home).outcome == "installed"
    assert arms() == before


def test_only_what_changed_is_fetched(enrolled: Kiosk) -> None:
    """New purchases move no arm's file; another model of an arm moves none of the main one's."""
    full = sum(path.stat().st_size for path in (enrolled.home / "gen").glob("*challenger*"))
    enrolled.head.publish(
        rebought=[4],
        customers=CUSTOMERS,
        change=lambda folder: add_experiment(folder, calibration=CALIBRATION),
    )
    synced = sync(enrolled.home)
    assert synced.outcome == "installed"
    fetched = enrolled.head.release(2).files
    before = enrolled.head.release(1).files
    arms = [name for name in fetched if name.startswith("challenger.")]
    assert len(arms) == 4
    assert all(fetched[name] == before[name] for name in arms)
    enrolled.head.publish(
        rebought=[4],
        customers=CUSTOMERS,
        change=lambda folder: add_experiment(folder, own={"challenger": 9}),
    )
    main = ("scorer.onnx", "encoder.onnx", "items.safetensors", "items.jsonl")
    third = enrolled.head.release(3).files
    assert all(third[name] == fetched[name] for name in main)
    moved = sync(enrolled.home).moved
    assert moved < full + 40_000, "the challenger, an index and metadata"


def test_a_sync_mends_a_damaged_arm_and_what_serves_follows(enrolled: Kiosk) -> None:
    customer = of_arm(enrolled, "challenger")[0]
    side = side_of(enrolled.home, enrolled.head.releases[0].folder)
    for damage in (flip, Path.unlink):
        damage(side)
        serving = Recommender.open(enrolled.home, thorough=True)
        assert serving.recommend(customer).model == "main"
        assert sync(enrolled.home).outcome == "installed"
        assert serving.recommend(customer).model == "challenger"
        serving.close()
        assert sync(enrolled.home).outcome == "up to date"


def test_an_arm_that_answers_otherwise_here_is_not_taken(enrolled: Kiosk) -> None:
    def spoil(folder: Path) -> None:
        add_experiment(folder)
        change_tensor(folder, "challenger.golden.safetensors", "top_scores", lambda v: v - 1)

    enrolled.head.publish(seed=3, change=spoil)
    with pytest.raises(ReleaseError, match="seq 2 is bad, and not taken again: arm challenger: go"):
        sync(enrolled.home)
    recommender = Recommender.open(enrolled.home, thorough=True)
    answer = recommender.recommend(of_arm(enrolled, "challenger")[0])
    recommender.close()
    assert (answer.release, answer.model) == ("2020-07-27-00000001", "challenger")
    assert not list((enrolled.home / "gen").glob("*.tmp"))


@pytest.mark.parametrize("arm", ["main", "challenger"])
def test_online_scores_are_comparable_with_the_arm_whose_space_they_have(
    enrolled: Kiosk, arm: str
) -> None:
    spaces = {"challenger": enrolled.head.release(1).manifest.own_arms[0].own}
    own = spaces["challenger"]
    assert own is not None
    everybody = [customer for each in SHARES for customer in of_arm(enrolled, each)]
    publish_lists(enrolled.head, lists_for(everybody), space=own.space)
    sync(enrolled.home)
    recommender = Recommender.open(enrolled.home)
    paths = {recommender.recommend(customer).path for customer in of_arm(enrolled, arm)}
    assert paths == ({"blend"} if arm == "challenger" else {"rank-fusion"})
    recommender.close()


def test_a_holdout_gets_nothing_of_an_online_list_but_what_it_bought(enrolled: Kiosk) -> None:
    at = 1_900_000_000
    held = of_arm(enrolled, "holdout")
    recommender = Recommender.open(enrolled.home)
    best = ids_of(recommender.recommend(held[0]))[0]
    recommender.close()
    publish_lists(enrolled.head, lists_for(held, bought=[(best, at)]))
    sync(enrolled.home)
    recommender = Recommender.open(enrolled.home)
    answer = recommender.recommend(held[0])
    recommender.close()
    assert (answer.path, answer.online_as_of, answer.tier) == ("offline", None, "store-popular")
    assert best not in ids_of(answer)


def test_who_is_erased_is_in_no_file_of_an_arm(enrolled: Kiosk, tmp_path: Path) -> None:
    """Searched as bytes, while a process serves on."""
    customer = of_arm(enrolled, "challenger")[0]
    name = enrolled.pseudonym(customer)
    serving = Recommender.open(enrolled.home)
    cache = serving._cache
    known = cache.customer(name.hex())
    assert known is not None
    vector = known.components.tobytes()
    assert serving.recommend(customer).tier == "personal"
    receipt = erase(enrolled.home, customer, tmp_path / "receipt.json")
    assert receipt["found"]
    patterns = [customer.encode(), name, name.hex().encode()]
    patterns += [vector[i : i + 32] for i in range(0, len(vector) - 31, 32)]
    for path in enrolled.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [each for each in patterns if any(each) and each in content], path
    answer = serving.recommend(customer)
    assert (answer.arm, answer.tier) == ("spring/challenger", "store-popular")
    other = serving.recommend(of_arm(enrolled, "challenger")[1])
    assert (other.tier, other.model) == ("personal", "challenger")
    assert serving.warnings == []
    serving.close()


def test_a_visitor_is_answered_by_the_model_of_their_arm(tmp_path: Path) -> None:
    """With their history from head office, as at home."""
    head = make_head(tmp_path / "head", publish=False)
    others: dict[str, Release] = {}
    head.publish(
        customers=CUSTOMERS,
        stores=[["S1"] if n % 2 == 0 else ["S2"] for n in range(CUSTOMERS)],
        change=lambda folder: others.update(add_experiment(folder)),
    )
    kiosk = enrol(head, tmp_path / "home", store="S1")
    settings = changed(read_settings(kiosk.home), visitors_deadline=60.0)  # of a busy machine
    settings_path(kiosk.home).write_text(settings.to_toml())
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home, visitors=True)
    visitors = [each for each in of_arm(kiosk, "challenger") if int(each[1:]) % 2]
    assert visitors
    for customer in visitors[:5]:
        answer = recommender.recommend(customer)
        assert (answer.arm, answer.model) == ("spring/challenger", "challenger")
        row = int(customer[1:])
        assert ids_of(answer) == best_of(others["challenger"], head.releases[0], row, 0)
    assert recommender.warnings == []
    recommender.close()


def test_a_damaged_release_that_answers_by_what_sells_has_no_arm(home: Path) -> None:
    """Its manifest could say anything."""
    (active,) = (home / "gen").glob("*.db")
    flip(active)
    recommender = Recommender.open(home, thorough=True)
    answer = recommender.recommend(in_arm("challenger")[0])
    recommender.close()
    assert (answer.arm, answer.model, answer.tier) == (None, None, "store-popular")


def test_a_kiosk_that_is_enrolled_later_goes_over_to_pseudonyms(home: Path) -> None:
    identity = make_identity()
    identity_path(home).write_text(identity.to_json())
    recommender = Recommender.open(home)
    from c2rec.runtime.home.identity import pseudonym

    for n in range(3, 30):
        named = pseudonym(identity.customer_key, f"c{n:06}").hex()
        assert recommender.recommend(f"c{n:06}").arm == f"spring/{assign(NAME, SHARES, named)}"
    recommender.close()
