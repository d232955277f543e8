"""`python -m modelyard.cli`, for a checkout that isn't installed."""

import sys

from modelyard.cli.main import main

sys.exit(main())
