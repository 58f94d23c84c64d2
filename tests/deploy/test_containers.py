"""The files for containers: what an image is made of, and what Kubernetes is told."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from fluxhook import load
from fluxhook.config.units import Duration

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "deploy/container/Dockerfile"
MANIFESTS: Final = ROOT / "deploy/kubernetes/fluxhook.yaml"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFESTS.read_text()))


def pod() -> dict[str, Any]:
    (found,) = [m for m in manifests() if m["kind"] == "StatefulSet"]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", ["1.30.0", "1.34.0", "1.37.0"])
def test_kubernetes_takes_the_manifests(version: str) -> None:
    """Strictly: an unknown field is a mistyped one."""
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_pod_is_restricted() -> None:
    """The pod security standard `restricted`, and a root that nobody can write to."""
    spec, (container,) = pod(), pod()["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_configuration_is_sound_and_there_is_time_to_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod has longer than preStop and `shutdown_timeout` together."""
    (config_map,) = [m for m in manifests() if m["kind"] == "ConfigMap"]
    path = tmp_path / "fluxhook.yaml"
    path.write_text(config_map["data"]["fluxhook.yaml"])
    (container,) = pod()["containers"]
    (token,) = [variable["name"] for variable in container["env"] if "valueFrom" in variable]
    monkeypatch.setenv(token, "a-token-of-24-characters")
    config = load(path).config
    assert config.shutdown_timeout == Duration.parse("30s")
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace_s = pod()["terminationGracePeriodSeconds"]
    assert grace_s > pause_s + config.shutdown_timeout.seconds


def test_the_volume_is_where_the_image_keeps_its_data() -> None:
    """Manifest and image agree on user, folder, port and command."""
    (container,), text = pod()["containers"], DOCKERFILE.read_text()
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert re.search(r"^VOLUME (.*)$", text, re.M)[1] == mounts["data"]  # type: ignore[index]
    assert f"FLUXHOOK_DATA_DIR={mounts['data']}" in text
    (folder,) = [v["value"] for v in container["env"] if v["name"] == "FLUXHOOK_DATA_DIR"]
    assert Path(folder).parent == Path(mounts["data"])
    user = pod()["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in text
    assert f"EXPOSE {container['ports'][0]['containerPort']}" in text
    command = re.search(r"^CMD (\[.*\])$", text, re.M)
    assert command
    assert yaml.safe_load(command[1]) == container["args"]


def test_what_the_image_is_built_of_suffices(tmp_path: Path) -> None:
    """Docker sends what .dockerignore lets through, and that is all that a build of metadata needs."""
    lines = ROOT.joinpath(".dockerignore").read_text().split()
    assert lines[0] == "*"
    for name in (line[1:] for line in lines if line.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "*.c"))
        else:
            shutil.copy(source, tmp_path / name)
    for named in re.findall(r"/src/([\w./-]+)", DOCKERFILE.read_text()):
        assert tmp_path.joinpath(named).exists(), named
    code = (
        "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    )
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    assert built.stdout.splitlines()[-1].startswith("fluxhook-")
