"""Head office: purchases in, a trained and evaluated C2Rec out."""
