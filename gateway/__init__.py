"""authgate: one process that signs people in, judges every call and tells the backend who calls."""

import os

from gateway import compiled

compiled.prefer(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
