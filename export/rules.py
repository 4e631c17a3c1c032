"""Rules that head office sends with a release."""

from dataclasses import dataclass
from pathlib import Path

from c2rec.runtime.errors import DataError
from c2rec.runtime.rules.rules_file import check_rules, read_rules_text, unknown_columns
from c2rec.train.run import Run

_OWN = {"item_id", "name"}


@dataclass(frozen=True, slots=True)
class SentRules:
    """Rules that fit the items of a run."""

    text: str
    unknown_items: int
    """Ids that they name and the run doesn't know: of items that may come, or misspelt."""


def rules_of(path: Path, run: Run) -> SentRules:
    """Read rules, and check that they fit a run's items.

    Raises:
        DataError: the file can't be read, something in it is wrong, or it names a column that the
            items don't have.
    """
    text = read_rules_text(path)
    rules = check_rules(text, file=str(path), origin="release")
    items = run.data.dataset.items
    columns = [] if items is None else [name for name in items.columns if name not in _OWN]
    if errors := unknown_columns(rules, columns, str(path)):
        raise DataError("\n".join(errors))
    selecting = (*rules.deny, *rules.allow, *rules.weigh, *rules.bought)
    named = {item_id for rule in selecting for item_id in rule.selector.items or ()}
    return SentRules(text, len(named.difference(run.data.split.vocabulary.item_ids)))
