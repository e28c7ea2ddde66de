"""`python -m deploy_test`, for scripts/test-deploy."""

import sys

from deploy_test.command import main

sys.exit(main())
