"""authgate: one process that signs people in, judges every call and tells the backend who calls."""
