"""What is asked of the customers of an experiment; every answer is yes or no."""

from dataclasses import dataclass
from datetime import timedelta

METRICS = ("conversion", "cross_channel", "online", "retention")


@dataclass(frozen=True, slots=True)
class Windows:
    """How long customers are followed after they were first shown something."""

    attribution: timedelta
    """For purchases in the store."""
    follow: timedelta
    """For purchases online, and for coming back; whole days."""

    def of(self, metric: str) -> timedelta:
        """How long a customer is followed for a metric."""
        return self.attribution if metric == "conversion" else self.follow


def describe(metric: str, windows: Windows) -> str:
    """Say what a metric counts."""
    hours, days = windows.attribution / timedelta(hours=1), windows.follow.days
    within = f"within {hours:g} hours" if hours != 1 else "within an hour"
    return {
        "conversion": f"bought in a store what was shown to them there, {within}",
        "cross_channel": f"bought online what was shown to them in a store, within {days} days",
        "online": f"bought anything online, within {days} days",
        "retention": f"came back after a day or later, to buy or to a kiosk, within {days} days",
    }[metric]
