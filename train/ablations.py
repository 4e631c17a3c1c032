"""C2Rec with one part taken out or exchanged, to see what each part is worth."""

from collections.abc import Iterator
from dataclasses import replace

from c2rec.train.config import BlendConfig, ChannelBlend, RunConfig
from c2rec.train.trained import Variant

_NOTHING = ChannelBlend(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def ablations(full: RunConfig) -> Iterator[Variant]:
    """List the ablations.

    Args:
        full: C2Rec as it is; each ablation differs from it in one part.
    """

    def model(name: str, meaning: str, **changes: object) -> Variant:
        config = replace(full, model=replace(full.model, **changes))  # type: ignore[arg-type]
        return Variant(f"c2rec {name}", config, meaning)

    def training(name: str, meaning: str, **changes: float) -> Variant:
        config = replace(full, training=replace(full.training, **changes))  # type: ignore[arg-type]
        return Variant(f"c2rec {name}", config, meaning)

    yield model("2 components", "offline and online taste, no shared one", components=2)
    yield model("4 components", "also what was bought in both channels", components=4)
    yield model("sigmoid", "each component weighed by itself", attention="sigmoid")
    yield model("learned", "one weight per channel and component", attention="learned")
    yield model("no attention", "all components weigh the same", attention="none")
    yield model("table", "three learned vectors per customer", encoder="table")
    yield model("no attributes", "items are their ids alone", attributes=False)
    yield model("no neighbours", "attention and popularity alone", neighbours=0)
    yield training("no offline loss", "without L_off", offline_weight=0.0)
    yield training("no online loss", "without L_on", online_weight=0.0)
    yield training("no class loss", "without L_cls", class_weight=0.0)
    yield training("no attention loss", "without L_attn", attention_weight=0.0)
    alone = replace(
        full,
        model=replace(full.model, neighbours=0),
        blend=BlendConfig(search=False, offline=_NOTHING, online=_NOTHING),
    )
    without = "without neighbours, recent and seasonal popularity"
    yield Variant("c2rec attention alone", alone, without)
    for name, changes in (
        ("no attention", {"attention": "none"}),
        ("2 components", {"components": 2}),
        ("table", {"encoder": "table"}),
    ):
        config = replace(alone, model=replace(alone.model, **changes))
        yield Variant(f"c2rec attention alone, {name}", config, f"{without}, and {name}")
