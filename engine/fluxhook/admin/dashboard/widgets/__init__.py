"""The parts that pages are made of: tables, charts, forms, dialogs."""
