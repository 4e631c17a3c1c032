"""Ways to spoil a bundle, and what its reader says to each."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.release import change_tensor, reseal


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
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


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


def drop_the_days(folder: Path) -> None:
    tensors = load_file(folder / "customers.safetensors")
    del tensors["history_days"]
    save_file(tensors, folder / "customers.safetensors")
    reseal(folder)


def repeat_a_purchase(folder: Path) -> None:
    def change(items: Any) -> Any:
        items[1] = items[0]  # both of customer 1, in the store
        return items

    change_tensor(folder, "customers.safetensors", "history_items", change)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
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
    "no days, as in older bundles": (
        drop_the_days,
        r"customers\.safetensors: tensor 'history_days' is missing; allowed: exactly",
    ),
    "a day before 1970": (
        set_value("customers", "history_days", (3,), -1),
        r"tensor 'history_days' at \[3\] is -1; allowed: whole numbers from 0 to 47481",
    ),
    "a day after 2099": (
        set_value("customers", "history_days", (3,), 47_482),
        r"tensor 'history_days' at \[3\] is 47482; allowed",
    ),
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
    "a store of a number": (
        set_line("stores.jsonl", 1, "[7]"),
        r"stores\.jsonl:2: \[7\]; allowed: a list of store ids",
    ),
    "stores of a text": (
        set_line("stores.jsonl", 1, '"S1"'),
        r"stores\.jsonl:2: 'S1'; allowed: a list of store ids",
    ),
    "stores unsorted": (
        set_line("stores.jsonl", 1, '["b", "a"]'),
        r"stores\.jsonl:2: id 'a' after 'b'",
    ),
    "a store without end": (
        set_line("stores.jsonl", 1, f'["{"s" * 101}"]'),
        r"stores\.jsonl:2: store id 's+…; allowed: 1 to 100 printable",
    ),
    "stores of nobody": (
        set_line("stores.jsonl", 30, "[]"),
        r"stores\.jsonl has more than the 30 rows counted",
    ),
    "stores cut": (set_line("stores.jsonl", 29, ""), r"stores\.jsonl has 29 rows; .* counts 30"),
    "no space": (drop_field("space"), r"manifest\.json: space is missing"),
    "a space in words": (set_field("space", to="x"), r"space is 'x'; allowed: 64 lower-case hex"),
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
