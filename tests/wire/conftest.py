"""The live tests need an environment of their own: `make wire` makes it and says where it is."""

import os

collect_ignore = [] if os.environ.get("WIRE_PYTHON") else ["test_wire_live.py"]
