"""Files of prices as vendors, libraries and spreadsheets write them, and damage to them."""
