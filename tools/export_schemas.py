"""Holds exported files to the schemas of the tools that they are for.

Usage: python tools/export_schemas.py CRD.yaml... -- FILE.yaml...

The CRDs are those of the tools: `pkg/apis/crds/karpenter.sh_nodepools.yaml` of
kubernetes-sigs/karpenter, `ray-operator/config/crd/bases/ray.io_ray*.yaml` of ray-project/kuberay.
FILES are what `export` wrote, such as `tests/golden/placement.*.yaml`, to which tests hold it. A
field that a schema does not name is wrong, as for kubectl's strict check.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml


def strict(part: Any) -> Any:
    """Return a schema in which what it does not name is wrong."""
    if isinstance(part, list):
        return [strict(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {key: strict(value) for key, value in part.items()}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    if found.pop("x-kubernetes-int-or-string", None):
        return {"type": ["integer", "string"]}
    return found


def schemas(path: Path) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield version and kind with the schema, for each version of a custom resource."""
    crd = yaml.safe_load(path.read_text("utf-8"))["spec"]
    for version in crd["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        # Kubernetes itself knows what is in metadata.
        schema["properties"]["metadata"] = {"type": "object"}
        yield (f"{crd['group']}/{version['name']}", crd["names"]["kind"]), schema


def main() -> int:
    """Check each object of each file; tell what is wrong."""
    cut = sys.argv.index("--")
    known = dict(pair for path in sys.argv[1:cut] for pair in schemas(Path(path)))
    wrong = 0
    for path in sys.argv[cut + 1 :]:
        for found in yaml.safe_load_all(Path(path).read_text("utf-8")):
            key = (found["apiVersion"], found["kind"])
            if key not in known:
                sys.stdout.write(f"{path}: {key[0]} {key[1]}: no schema given\n")
                wrong += 1
                continue
            errors = list(jsonschema.Draft7Validator(known[key]).iter_errors(found))
            wrong += len(errors)
            for error in errors:
                place = "/".join(str(part) for part in error.absolute_path)
                sys.stdout.write(f"{path}: {key[1]}: {place}: {error.message[:200]}\n")
            if not errors:
                sys.stdout.write(f"{path}: {key[1]} {found['metadata']['name']}: well\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
