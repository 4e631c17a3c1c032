"""Head office: a trained run in, a release that a kiosk can serve out."""
