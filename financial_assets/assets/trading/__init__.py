"""Group trading: from the signals of a session to orders, and what they became on paper."""
