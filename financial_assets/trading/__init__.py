"""From a book's targets to orders, and from orders to fills: order files, brokers and the paper book."""
