"""What the model has to beat. Each file holds one baseline; each is a ``metrics.Ranker``."""
