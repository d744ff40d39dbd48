"""`python -m tinygrad_edu` is the command `tinygrad-edu`."""

import sys

from .cli.main import main

sys.exit(main())
