"""What the desk asks for: a session with its signals, its risk, a book, orders, and the paper book."""
