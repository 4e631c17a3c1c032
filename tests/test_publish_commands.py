"""The commands of head office about repositories, run as an operator runs them."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from c2rec.export.cli import cli
from c2rec.train.commands.options import errors_to_exit
from tests.release import make_release
from tests.repositories import Head, make_head
from tests.repository_reader import read_repository


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return make_head(tmp_path, passphrase=b"a passphrase")


def run(*arguments: object, given: str | None = "a passphrase") -> Result:
    """Run ``c2rec-export`` with its errors as messages."""
    environment = {"C2REC_KEYS_PASSPHRASE": given, "C2REC_KEYS": None}

    def main() -> None:
        with errors_to_exit("export"):
            cli.main([str(each) for each in arguments], standalone_mode=False)

    import click

    runner = CliRunner(env=environment)
    return runner.invoke(click.Command("c2rec-export", callback=main), [])


def document(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    assert found["schema"] == 1
    return found


def test_keys_init_says_what_to_do_next(tmp_path: Path) -> None:
    done = run("keys", "init", tmp_path / "keys", "--root-keys", 2, "--threshold", 2)
    assert done.exit_code == 0
    assert f"Move {tmp_path}/keys/offline away" in done.stdout
    assert "not encrypted" not in done.stderr
    done = run("keys", "init", tmp_path / "open", given=None)
    assert "the private keys are not encrypted" in done.stderr
    done = run("keys", "init", tmp_path / "open", given=None)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: {tmp_path}/open: is there already")


def test_a_passphrase_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    option = ["--passphrase-file", tmp_path / "secret"]
    assert run("keys", "init", tmp_path / "keys", *option, given=None).exit_code == 0
    made = make_release(tmp_path / "bundle")
    asked = ["publish", made.folder, tmp_path / "repo", "--keys", tmp_path / "keys"]
    assert run(*asked, *option, given=None).exit_code == 0
    assert "is published already" in run(*asked, given="from a file").stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r".pem is encrypted; give --passphrase-file, or set C2REC_KEYS_PASSPHRASE"),
        ("wrong", r"the passphrase doesn't open it, or it is damaged; check --passphrase-file"),
        ("", "C2REC_KEYS_PASSPHRASE is empty; allowed: a passphrase"),
    ],
)
def test_without_the_right_passphrase_nothing_is_published(
    head: Head, given: str | None, message: str
) -> None:
    made = make_release(head.folder / "next", name="next", seed=2)
    done = run("publish", made.folder, head.repo, "--keys", head.keys.folder, given=given)
    assert done.exit_code == 1
    assert message in done.stderr
    assert read_repository(head.repo, head.keys).ring.seq == 1


def test_a_passphrase_file_that_is_not_there_is_told(head: Head) -> None:
    done = run("resign", head.repo, "--keys", head.keys.folder, "--passphrase-file", "nowhere")
    assert done.stderr == "Error: nowhere: can't be read: No such file or directory\n"


def test_publish_answers_a_person_and_a_program(head: Head) -> None:
    made = make_release(head.folder / "next", name="next", rebought=[3])
    asked = ["publish", made.folder, head.repo, "--keys", head.keys.folder]
    waves = ["--waves", "2026-12-01T06:00:00Z=0.01", "--ring", "pilot", "--floor", 1]
    done = run(*asked, *waves)
    assert done.exit_code == 0
    assert "release next is 2 in ring pilot: 30 customers, 1 shards of 1 stores, 1 delta" in (
        done.stdout
    )
    assert "publishing shards" in done.stderr
    ring = read_repository(head.repo, head.keys, ring="pilot").ring
    assert (ring.floor, [wave.share for wave in ring.waves]) == (1, [0.01])
    again = document(run(*asked, "--again", "--json", "--no-visitors"))
    assert (again["seq"], again["blobs_written"]) == (3, 0)


@pytest.mark.parametrize(
    ("option", "code", "message"),
    [
        (["--waves", "tomorrow"], 2, "a wave is 'tomorrow'; allowed: a time in UTC"),
        (["--ring", "../x"], 2, "a ring can't be named '../x'"),
        (["--floor", 9], 1, "ring stable's floor would be 9, above the release 2"),
        (["--seq", 1], 1, "--seq 1; the repository is at 1"),
        (["--seq", 0], 2, "Invalid value for '--seq': 0 is not in the range"),
        (["--seq", 2**53 + 1], 2, "Invalid value for '--seq'"),
        (["--floor", -1], 2, "Invalid value for '--floor': -1 is not in the range"),
        (["--min-runtime", "new"], 2, "--min-runtime 'new'; allowed: a version, as in 0.1.0"),
        (["--min-runtime", ""], 2, "--min-runtime ''; allowed: a version"),
    ],
)
def test_what_is_quick_to_check_is_told_before_the_bundle_is_read(
    head: Head, option: list[object], code: int, message: str
) -> None:
    (head.folder / "no bundle").mkdir()
    asked = ["publish", head.folder / "no bundle", head.repo, "--keys", head.keys.folder]
    done = run(*asked, *option)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert "manifest" not in done.stderr
    assert "manifest" in run(*asked).stderr  # which is why nothing else would be published


def test_keys_of_another_head_office_are_told_before_the_bundle_is_read(
    head: Head, tmp_path: Path
) -> None:
    (tmp_path / "no bundle").mkdir()
    other = tmp_path / "other keys"
    run("keys", "init", other)
    done = run("publish", tmp_path / "no bundle", head.repo, "--keys", other)
    assert done.exit_code == 1
    assert "manifest" not in done.stderr
    assert done.stderr.startswith("Error: ")


def test_where_kiosks_read_is_not_where_head_office_writes(head: Head) -> None:
    done = run("publish", head.folder, "http://host/c2rec", "--keys", head.keys.folder)
    assert done.exit_code == 1
    assert "REPO is 'http://host/c2rec', where kiosks may read a repository" in done.stderr
    assert "allowed: the folder that the web server serves, or a bucket" in done.stderr


def test_a_kiosk_s_kit_is_made(head: Head) -> None:
    out = head.folder / "kit"
    done = run(
        *("keys", "kiosk", "--store", "S/12", "--device", "K1"),
        *("--out", out, "--keys", head.keys.folder),
    )
    assert done.exit_code == 0
    assert "K1 in S/12" in done.stdout
    assert json.loads((out / "identity.json").read_text())["store"] == "S/12"
    assert head.keys.store_key("S/12").hex() not in done.output


def test_keys_are_rotated(head: Head) -> None:
    done = run("keys", "rotate", "channel", "--keys", head.keys.folder, "--json")
    assert document(done)["targets_version"] == 2
    done = run("keys", "rotate", "root", "--keys", head.keys.folder)
    assert "Tell the kiosks with: c2rec-export resign REPO" in done.stdout
    done = run("keys", "rotate", "boss", "--keys", head.keys.folder)
    assert done.stderr.startswith("Error: there is no role 'boss'; allowed: root, targets")


def test_a_rollout_is_halted_resumed_and_turned_back(head: Head) -> None:
    head.publish(seed=2)
    where = [head.repo, "--keys", head.keys.folder]
    assert "release 2 is halted" in run("halt", head.repo, "stable", *where[1:]).stdout
    assert read_repository(head.repo, head.keys).ring.halt
    ring = document(run("halt", head.repo, "stable", "--resume", *where[1:], "--json"))["ring"]
    assert isinstance(ring, dict)
    assert (ring["seq"], ring["halt"]) == (2, False)
    done = run("promote", head.repo, 1, "--ring", "stable", *where[1:])
    assert "ring stable: release 1, before 2; floor 0" in done.stdout
    done = run("promote", head.repo, 2, "--ring", "new", *where[1:])
    assert "ring new: release 2, before nothing" in done.stdout
    done = run("promote", head.repo, 2, "--ring", "new", "--json", *where[1:])
    assert document(done)["ring"]
    done = run("promote", head.repo, 7, "--ring", "stable", *where[1:])
    assert done.stderr == "Error: there is no release 7; the repository has: 2, 1\n"


def test_customers_are_erased_by_name_and_by_file(head: Head) -> None:
    file = head.folder / "ids"
    file.write_text("c000002\n\nc000003\n")
    where = [head.repo, "--keys", head.keys.folder]
    done = run("tombstone", head.repo, "c000001", "--file", file, *where[1:])
    assert "3 more customers are erased, 3 in all" in done.stdout
    done = run("tombstone", head.repo, "c000001", "c000009", *where[1:], "--json")
    assert document(done) == {"schema": 1, "added": 1, "total": 4}
    assert len(read_repository(head.repo, head.keys).tombstones) == 4
    file.write_bytes(b"\xff\xfe")
    done = run("tombstone", head.repo, "--file", file, *where[1:])
    assert "is not text in UTF-8" in done.stderr
    done = run("tombstone", head.repo, "--file", head.folder / "none", *where[1:])
    assert "can't be read: No such file" in done.stderr


def test_tombstone_without_customers_is_wrong_usage(head: Head) -> None:
    done = CliRunner().invoke(cli, ["tombstone", str(head.repo), "--keys", str(head.keys.folder)])
    assert done.exit_code == 2
    assert "name at least one CUSTOMER, or give --file" in done.stderr


def test_signatures_are_told_and_renewed(head: Head) -> None:
    done = run("expiry", head.repo)
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 8
    assert document(run("expiry", head.repo, "--json"))["ok"] is True
    done = run("expiry", head.repo, "--warn-days", 400)  # half a life is not over yet
    assert done.exit_code == 0
    shutil.rmtree(head.keys.folder / "offline")
    done = run("resign", head.repo, "--keys", head.keys.folder)
    assert done.exit_code == 0
    assert "signed snapshot, timestamp anew" in done.stdout
    done = run("resign", head.repo, "--keys", head.keys.folder, "--json")
    assert document(done) == {"schema": 1, "signed": ["snapshot", "timestamp"], "left": []}


def test_what_ends_soon_is_an_exit_code(head: Head) -> None:
    import time_machine

    shutil.rmtree(head.keys.folder / "offline")
    with time_machine.travel("2036-01-01T00:00:00Z", tick=False):
        done = run("expiry", head.repo)
        assert done.exit_code == 1
        assert done.stdout.count("ENDED  soon") == 8
        assert "sign anew with: c2rec-export resign" in done.stderr
        done = run("expiry", head.repo, "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["ok"] is False
        done = run("resign", head.repo, "--keys", head.keys.folder)
        assert done.exit_code == 1
        assert f"their key isn't in {head.keys.folder}: root, targets; bring it" in done.stderr
        assert "signed release, channel, data, scores, snapshot, timestamp anew" in done.stdout


def test_garbage_is_told_and_removed(head: Head) -> None:
    (head.repo / "blob" / "half").write_bytes(b"x" * 10)
    where = [head.repo, "--keys", head.keys.folder, "--grace-days", 0]
    dry = document(run("collect-garbage", *where, "--dry-run", "--json"))
    assert (dry["files"], dry["bytes"], dry["dry_run"]) == (1, 10, True)
    assert "would remove 1 files" in run("collect-garbage", *where, "--dry-run").stdout
    assert "removed 1 files" in run("collect-garbage", *where).stdout
    assert document(run("collect-garbage", *where, "--json"))["files"] == 0


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("repo", "timestamp.json: can't be read or written: Is a directory"),
        ("bundle", "items.jsonl is not a regular file"),
        ("keys", ".pem: can't be read: Is a directory"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(head: Head, what: str, message: str) -> None:
    made = make_release(head.folder / "next", name="next", seed=2)
    path = {
        "repo": head.repo / "metadata" / "timestamp.json",
        "bundle": made.folder / "items.jsonl",
        "keys": head.keys.files("release")[0],
    }[what]
    path.unlink()
    path.mkdir()
    done = run("publish", made.folder, head.repo, "--keys", head.keys.folder)
    assert done.exit_code == 1
    assert message in done.stderr.splitlines()[-1]


def test_no_secret_is_ever_printed(head: Head) -> None:
    made = make_release(head.folder / "next", name="next", seed=2, stores=[["S"]] * 30)
    (head.keys.folder / "stores.key").write_text("not hex, but secret")
    where = ["--keys", head.keys.folder]
    outputs = [
        run("publish", made.folder, head.repo, *where),
        run("keys", "kiosk", "--store", "S", "--device", "K", "--out", head.folder / "k", *where),
    ]
    for done in outputs:
        assert done.exit_code == 1
        assert "stores.key is damaged; allowed: 64 hex digits" in done.stderr
        for secret in ("but secret", "a passphrase", head.keys.customer_key.hex()):
            assert secret not in done.output
