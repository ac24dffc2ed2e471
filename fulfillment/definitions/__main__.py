"""`python -m fulfillment.definitions` prints the JSON Schema of template files."""

from __future__ import annotations

import json
import sys

from fulfillment.definitions.json_schema import workflow_schema

if __name__ == "__main__":
    sys.stdout.write(json.dumps(workflow_schema(), indent=2) + "\n")
