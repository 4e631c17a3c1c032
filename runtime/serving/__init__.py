"""One request on its way to an answer: who asks, which tier ranks, and why."""
