"""`python -m queue_bench`, for scripts/bench-queue."""

import sys

from queue_bench.command import main

sys.exit(main())
