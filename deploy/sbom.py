"""Says what is linked into the programs, as CycloneDX 1.5: reads `cargo metadata`, writes JSON.

Built by features of the whole workspace, for one platform: what only tests need is in it where Cargo says `normal`.
"""

import json
import sys

PROGRAMS = {"sluice-coordinator", "sluice-edge-node"}

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}


def linked(node):
    """What a package is linked with: no dependencies of its build or its tests."""
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]


reached = []
waiting = [package["id"] for package in packages.values() if package["name"] in PROGRAMS]
while waiting:
    package = waiting.pop()
    if package not in reached:
        reached.append(package)
        waiting += linked(nodes[package])


def url(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package):
    told = {"type": "library", "bom-ref": url(package), "name": package["name"], "version": package["version"], "purl": url(package)}
    if package["license"]:
        told["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return told


ours = next(package for package in packages.values() if package["name"] == "sluice-coordinator")
components = sorted((packages[package] for package in reached), key=lambda package: (package["name"], package["version"]))
json.dump(
    {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "sluice", "name": "sluice", "version": ours["version"]}},
        "components": [component(package) for package in components],
        "dependencies": [
            {"ref": url(package), "dependsOn": sorted(url(packages[other]) for other in linked(nodes[package["id"]]))}
            for package in components
        ],
    },
    sys.stdout,
    indent=1,
)
print()
