"""`python -m fleet`, for scripts/simulate-fleet."""

import sys

from fleet.command import main

sys.exit(main())
