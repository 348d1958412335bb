"""`python -m sr_engine` is `sr-engine`."""

import sys

from sr_engine.cli.main import main

sys.exit(main())
