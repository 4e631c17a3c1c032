"""What customers are shown of whom nothing is known: what has sold best of late.

How late is chosen on the validation period: where fashions pass, the last days tell most; where
they don't, all days do.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from c2rec.runtime.ranking import top_k
from c2rec.runtime.records import CHANNELS
from c2rec.train.blend import LEAST_GAIN, SEARCH_K
from c2rec.train.config import BlendConfig, ChannelBlend
from c2rec.train.split import Purchases

HALF_LIVES = (0.0, 100.0, 30.0, 10.0, 3.0, 1.0)
"""Days; 0: all sales count alike."""


def popularity(sold: Purchases, items: int, blend: BlendConfig) -> npt.NDArray[np.float32]:
    """Count units sold, each counting less with its age: float32 (2, items).

    Args:
        sold: up to the day that ages are counted from; at least one.
        items: in the catalogue.
        blend: its half-lives are used.
    """
    ages = (sold.days.max() - sold.days).astype(np.float64)  # (purchases,), days
    counted = np.zeros((len(CHANNELS), items))
    for channel, weights in enumerate((blend.offline, blend.online)):
        here = sold.channels == channel
        share = 0.5 ** (ages[here] / weights.half_life) if weights.half_life else 1.0
        units = sold.quantities[here] * share
        counted[channel] = np.bincount(sold.items[here], units, minlength=items)
    return counted.astype(np.float32)


def choose_half_lives(
    sold: Purchases, later: Purchases | None, items: int, blend: BlendConfig
) -> BlendConfig:
    """Choose the half-lives by which the later purchases come first: by their DCG@100.

    Args:
        sold: purchases of the training period.
        later: of the validation period; None leaves the half-lives as they are.
        items: in the catalogue.
        blend: where the choice begins.
    """
    if later is None or not blend.search:
        return blend
    chosen: list[ChannelBlend] = []
    for channel, weights in enumerate((blend.offline, blend.online)):
        bought = np.bincount(later.items[later.channels == channel], minlength=items)
        best, most = weights, -1.0
        for half_life in HALF_LIVES:
            option = replace(weights, half_life=half_life)
            both = replace(blend, offline=option, online=option)
            listed = top_k(popularity(sold, items, both)[channel][None], SEARCH_K)[0]
            reached = float((bought[listed] / np.log2(np.arange(len(listed)) + 2)).sum())
            if reached > most * (1 + LEAST_GAIN) and bought.any():
                best, most = option, reached
        chosen.append(best)
    return replace(blend, offline=chosen[0], online=chosen[1])
