"""Commands about decisions: taking, approving and halting them; what can be shown of them to others."""
