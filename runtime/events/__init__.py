"""What happens at a kiosk, until head office has it."""
