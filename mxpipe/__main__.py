"""`python -m mxpipe` is the command line."""

import sys

from mxpipe.cli import main

sys.exit(main())
