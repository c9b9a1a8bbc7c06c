"""Judges what container runtimes and Kubernetes are given, as far as that goes without them.

deployment.py FOLDER    FOLDER: the repository's deploy/
"""

import copy
import json
import re
import sys
from pathlib import Path

import jsonschema
import yaml

deploy = Path(sys.argv[1])


def compose_names_what_is_there():
    compose = yaml.safe_load((deploy / "container/compose.yaml").read_text())
    services, volumes = compose["services"], compose["volumes"]
    dockerfile = (deploy / "container/Dockerfile").read_text()
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert other in services, f"{name} depends on {other}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./deploy/"):
                assert (deploy.parent / source).is_file(), source
            elif not source.startswith("."):
                assert source in volumes, f"{name} mounts {source}"
        if "build" in service:
            assert f" AS {service['build']['target']}\n" in dockerfile, name
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            assert service["user"] == "65532:65532", name
        for option in service.get("security_opt", []):
            if option.startswith("seccomp:"):
                assert (deploy.parent / option.removeprefix("seccomp:")).is_file(), option
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to others than this machine: {port}"
    assert any(option.startswith("seccomp:") for option in services["edge"]["security_opt"])
    assert services["edge"]["mem_limit"] == services["edge"]["memswap_limit"], "an edge does not swap"


def profile_allows_the_ring_and_no_more_than_needed():
    profile = json.loads((deploy / "container/seccomp.json").read_text())
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= allowed
    others = {"bpf", "chroot", "clone3", "fsopen", "init_module", "kexec_load", "keyctl", "mount", "perf_event_open", "pivot_root", "ptrace"}
    assert not (others | {"setns", "setuid", "unshare", "userfaultfd"}) & allowed


def values_are_held_to_their_schema():
    chart = deploy / "helm/sluice"
    schema = json.loads((chart / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    example = merged(defaults, yaml.safe_load((chart / "ci/example-values.yaml").read_text()))
    jsonschema.validate(example, schema)
    refused = [
        ("publicUrl", ""),
        ("publicUrl", "downloads.example"),
        ("edge.weight", 0),
        ("edge.cacheSize", "much"),
        ("edge.allowUrls", []),
        ("edge.colour", "blue"),
        ("edge.rootMarker", "/.store"),
        ("edge.rootMarker", "a/../.store"),
        ("edge.rootMarker", "a//b"),
        ("edge.rootMarker", ".."),
        ("edge.sha256Sidecars", "yes"),
        ("coordinator.edgesCaSecret", "Edges CA"),
        ("etcd.endpoints", []),
        ("redis.urlSecret", ""),
        ("files.nfs.path", "export"),
        ("files.nfs.server", ""),
        ("coordinator.schemes", ["password"]),
    ]
    for marker in ["", ".store", "..a/b", "a/.b/c..d"]:
        jsonschema.validate(merged(example, {"edge": {"rootMarker": marker}}), schema)
    for key, value in refused:
        values = copy.deepcopy(example)
        *folders, last = key.split(".")
        place = values
        for folder in folders:
            place = place[folder]
        place[last] = value
        assert list(jsonschema.Draft7Validator(schema).iter_errors(values)), f"{key} = {value!r} is taken"
    # Helm reads patterns as Go does, which looks neither ahead nor behind.
    assert not re.search(r"\(\?[=!<]", (chart / "values.schema.json").read_text())
    # Nothing is said but what a template reads, and no template reads what nobody can say.
    templates = "".join(path.read_text() for path in (chart / "templates").iterdir())
    for used in set(re.findall(r"\.Values((?:\.[A-Za-z0-9]+)+)", templates)):
        place = defaults
        for name in used.strip(".").split("."):
            assert name in place, f"templates read {used}, values.yaml has no such key"
            place = place[name]
    for section, keys in defaults.items():
        for key in keys if isinstance(keys, dict) else []:
            assert f".Values.{section}.{key}" in templates, f"nobody reads {section}.{key}"


def what_is_mounted_is_where_configurations_have_it():
    templates = deploy / "helm/sluice/templates"
    for config, pods in [("coordinator-config.yaml", "coordinator.yaml"), ("edge-config.yaml", "edge.yaml")]:
        text = (templates / config).read_text() + (templates / "_names.tpl").read_text()
        for path in re.findall(r'_file = "(/etc/[^"]+)"', text):
            folder, name = path.rsplit("/", 1)
            mounted = re.search(r"{name: ([a-z-]+), mountPath: " + re.escape(folder) + ",", (templates / pods).read_text())
            assert mounted, f"{pods} mounts nothing at {folder}"
            volume = f"- name: {mounted[1]}\n          secret: {{secretName: {{{{ . }}}}, items: [{{key: {name}, path: {name}}}]}}"
            assert volume in (templates / pods).read_text(), f"{pods}: {mounted[1]} has no {name}"


def merged(values, changes):
    values = copy.deepcopy(values)
    for key, change in changes.items():
        nested = isinstance(change, dict) and isinstance(values.get(key), dict)
        values[key] = merged(values[key], change) if nested else change
    return values


def pods_end_after_their_downloads_and_keep_kubernetes_variables_out():
    templates = deploy / "helm/sluice/templates"
    for name in ["coordinator.yaml", "edge.yaml"]:
        text = (templates / name).read_text()
        for needed in ["enableServiceLinks: false", "runAsNonRoot: true", "/readyz", "/healthz", "PodDisruptionBudget"]:
            assert needed in text, f"{name}: {needed}"
    edge = (templates / "edge.yaml").read_text()
    assert "terminationGracePeriodSeconds: {{ add .Values.edge.drainSeconds 30 }}" in edge


for check in [
    compose_names_what_is_there,
    profile_allows_the_ring_and_no_more_than_needed,
    values_are_held_to_their_schema,
    what_is_mounted_is_where_configurations_have_it,
    pods_end_after_their_downloads_and_keep_kubernetes_variables_out,
]:
    check()
