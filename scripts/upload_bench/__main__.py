"""`python -m upload_bench`, for scripts/bench."""

import sys

from upload_bench.command import main

sys.exit(main())
