"""The words that training, export, runtime and kiosk share.

Nothing here imports numpy or onnxruntime, so that a command that only reports stays quick.
"""

from typing import Literal, TypeAlias

Channel: TypeAlias = Literal["offline", "online"]
Component: TypeAlias = Literal["shared", "offline", "online"]
Language: TypeAlias = Literal["en", "de", "ko"]
Tier: TypeAlias = Literal["similar", "personal", "basket", "store-popular", "catalogue"]
AnswerPath: TypeAlias = Literal["offline", "blend", "rank-fusion"]
"""How online scores went into an answer: not at all, by log-odds, or by places."""

CHANNELS: tuple[Channel, Channel] = ("offline", "online")
"""Channels in the order of every array's channel axis: 0 is the store, 1 the web shop."""

COMPONENTS: tuple[Component, Component, Component] = ("shared", "offline", "online")
"""A customer's embeddings in the order of every array's component axis."""

TIERS: tuple[Tier, ...] = ("similar", "personal", "basket", "store-popular", "catalogue")
"""Where an answer can come from, best first; a request falls through to the first that can.

Only what is asked for instead of an item comes from ``similar``."""

LANGUAGES: tuple[Language, ...] = ("en", "de", "ko")
"""Languages that a shopper can be told reasons in."""
