"""The commands about keys."""

import json
from pathlib import Path

import click

from c2rec.export.commands.options import (
    find_passphrase,
    keys_options,
    open_keys,
    passphrase_option,
)
from c2rec.train.commands.options import FOLDER, JSON


@click.group()
def keys() -> None:
    """Make the keys of head office, and kits for kiosks; replace keys.

    Whoever has root and targets keys can replace all others: keep offline/ away from this machine.
    """


@keys.command()
@click.argument("folder", type=FOLDER)
@click.option("--root-keys", type=click.IntRange(1, 20), default=1, help="How many root keys.")
@click.option(
    "--threshold", type=click.IntRange(1, 20), default=1, help="How many of them must sign."
)
@passphrase_option
def init(folder: Path, root_keys: int, threshold: int, passphrase_file: Path | None) -> None:
    """Make a folder with all keys, and sign which of them count.

    Back it up: without customer.key and stores.key every kiosk has to be enrolled again.
    """
    from c2rec.export.keys import make_keys

    passphrase = find_passphrase(passphrase_file)
    made = make_keys(folder, passphrase=passphrase, root_keys=root_keys, threshold=threshold)
    if passphrase is None:
        click.echo("the private keys are not encrypted: no passphrase was given", err=True)
    root = made.root().signed
    click.echo(
        f"{folder}: keys of all roles, {threshold} of {root_keys} root keys sign; the root holds "
        f"until {root.expires:%Y-%m-%d}. Move {folder / 'offline'} away, and keep a backup"
    )


@keys.command()
@click.option("--store", required=True, help="The store's id, as in the transactions.")
@click.option("--device", required=True, help="The kiosk's own name, unique in its store.")
@click.option("--out", type=FOLDER, required=True, help="Folder to make, with the kit.")
@keys_options
def kiosk(
    store: str, device: str, out: Path, keys_folder: Path, passphrase_file: Path | None
) -> None:
    """Write the kit of one kiosk: identity.json, which is secret, and root.json."""
    from c2rec.export.kit import write_kit

    write_kit(open_keys(keys_folder, passphrase_file), store, device, out)
    click.echo(
        f"{out}: identity.json and root.json of {device} in {store}; bring them there by a way you "
        f"trust, and enrol with: c2rec-kiosk enrol {out}"
    )


@keys.command()
@click.argument("role")
@keys_options
@JSON
def rotate(role: str, keys_folder: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Replace the keys of a role by new ones; the old ones count no longer.

    ROLE is root, targets, release, channel, data, scores, snapshot or timestamp. Needs offline/.
    Kiosks learn of it with the next c2rec-export resign or publish.
    """
    from dataclasses import asdict

    from c2rec.export.rotation import rotate as rotate_keys

    done = rotate_keys(open_keys(keys_folder, passphrase_file), role)
    if as_json:
        click.echo(json.dumps({"schema": 1, **asdict(done)}))
        return
    click.echo(
        f"{role}: new key {', '.join(key[:16] for key in done.new)}, revoked "
        f"{', '.join(key[:16] for key in done.revoked)}. Tell the kiosks with: "
        f"c2rec-export resign REPO --keys {keys_folder}"
    )
