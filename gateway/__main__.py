"""`python -m gateway`: the console command."""

import sys

from gateway.cli import main

sys.exit(main())
