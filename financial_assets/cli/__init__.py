"""The command line ``financial-assets``."""
