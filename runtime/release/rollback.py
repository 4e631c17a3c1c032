"""Going back to the release before, by hand."""

from pathlib import Path

from c2rec.runtime.errors import HomeError
from c2rec.runtime.home.disk import only_one
from c2rec.runtime.home.state import Generation, go_back, read_state
from c2rec.runtime.release.whole import whole_cache


def roll_back(home: Path) -> tuple[Generation, Generation]:
    """Make the previous release the active one; a sync doesn't take the present one again.

    Args:
        home: the home folder.

    Returns:
        What was active, and what is.

    Raises:
        NotInstalledError: there is no release, or no previous one.
        HomeError: the previous one is damaged, the state can't be written, or a sync is running.
    """
    with only_one(home):
        state = read_state(home)
        if state.previous is not None:
            try:
                whole_cache(home, state.previous, thorough=True).close()
            except HomeError as error:
                raise HomeError(f"the previous release can't answer: {error}") from error
        after = go_back(home, "rolled back by hand")
        return state.active, after.active
