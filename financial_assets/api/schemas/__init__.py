"""What goes in and comes out: pydantic models, each field with its unit."""
