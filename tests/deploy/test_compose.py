"""The compose file: what it starts, and that its parts fit each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from deploy.test_alerts import rules
from deploy.test_containers import DOCKERFILE
from fluxhook import load
from support.prometheus import promtool

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy/compose"


class Base(msgspec.Struct, forbid_unknown_fields=True):
    """What is not named below is refused: a mistyped key would be ignored by some versions of
    Compose. Names and types are those of the Compose Specification (github.com/compose-spec)."""


class Build(Base):
    context: str
    dockerfile: str


class Healthcheck(Base):
    test: list[str]
    interval: str
    timeout: str
    start_period: str | None = None


class Dependency(Base):
    condition: str


class Service(Base, kw_only=True):
    image: str
    restart: str
    cap_drop: list[str]
    security_opt: list[str]
    volumes: list[str]
    ports: list[str]
    healthcheck: Healthcheck
    build: Build | None = None
    stop_grace_period: str | None = None
    read_only: bool = False
    tmpfs: list[str] = []
    environment: dict[str, str] = {}
    command: list[str] = []
    secrets: list[str] = []
    depends_on: dict[str, Dependency] = {}


class Secret(Base):
    environment: str


class Compose(Base):
    name: str
    services: dict[str, Service]
    secrets: dict[str, Secret]
    volumes: dict[str, None]


def parsed(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def compose() -> Compose:
    return msgspec.convert(parsed("compose.yaml"), Compose)


def mounts(service: Service) -> dict[str, str]:
    """Return what is mounted where: source by target."""
    parts = [volume.split(":") for volume in service.volumes]
    return {part[1]: part[0] for part in parts}


def test_every_key_is_one_of_the_specification() -> None:
    """With a value of its type, and the three services that the guide names."""
    assert list(compose().services) == ["fluxhook", "prometheus", "grafana"]


def test_nothing_is_reachable_from_outside_and_nobody_is_root() -> None:
    """Ports of loopback only, no capabilities, and a root that the engine cannot write to."""
    for name, service in compose().services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.ports), name
        assert service.cap_drop == ["ALL"]
        assert service.security_opt == ["no-new-privileges:true"]
        assert service.healthcheck.test[0] == "CMD"
        assert re.fullmatch(r"[\w./-]+:v?[\w.]+", service.image), name
    engine = compose().services["fluxhook"]
    assert engine.read_only
    assert engine.tmpfs == ["/tmp"]


def test_every_file_that_is_mounted_is_there() -> None:
    """Paths count from the folder of the compose file; named volumes are declared."""
    whole = compose()
    for service in whole.services.values():
        for source in mounts(service).values():
            if source.startswith("."):
                assert (FOLDER / source).is_file(), source
            else:
                assert source in whole.volumes
        assert set(service.secrets) <= whole.secrets.keys()
        assert service.depends_on.keys() <= whole.services.keys()
    build = whole.services["fluxhook"].build
    assert build is not None
    assert (FOLDER / build.context / build.dockerfile).samefile(DOCKERFILE)


def test_the_engine_keeps_its_data_in_the_volume_and_has_time_to_drain() -> None:
    """It agrees with the image on folder, port, configuration and health check."""
    service, text = compose().services["fluxhook"], DOCKERFILE.read_text()
    (folder,) = [target for target, source in mounts(service).items() if source == "data"]
    assert f"FLUXHOOK_DATA_DIR={folder}" in text
    assert f"EXPOSE {service.ports[0].split(':')[-1]}" in text
    (file,) = [t for t, source in mounts(service).items() if source == "./fluxhook.yaml"]
    assert file in text
    assert f"CMD {json.dumps(service.healthcheck.test[1:])}" in text
    drain_s = load(FOLDER / "fluxhook.yaml", environ=_tokens()).config.shutdown_timeout.seconds
    assert int(str(service.stop_grace_period).removesuffix("s")) > drain_s


def _tokens() -> dict[str, str]:
    return {"FLUXHOOK_TOKEN": "a" * 24, "FLUXHOOK_METRICS_TOKEN": "b" * 24}


def test_prometheus_may_read_the_metrics_and_nothing_else() -> None:
    """Its token is the one in the file that it reads, with the scope `read`."""
    tokens = load(FOLDER / "fluxhook.yaml", environ=_tokens()).config.admin.tokens
    (own,) = [token for token in tokens if str(token.token) == "b" * 24]
    assert own.scopes == ("read",)
    (secret,) = compose().services["prometheus"].secrets
    assert compose().secrets[secret].environment == "FLUXHOOK_METRICS_TOKEN"
    (job,) = parsed("prometheus.yaml")["scrape_configs"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert job["static_configs"] == [{"targets": ["fluxhook:8090"]}]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """With the rules where they are mounted; the job has the name that they expect."""
    service = compose().services["prometheus"]
    text = (FOLDER / "prometheus.yaml").read_text()
    for target, source in mounts(service).items():
        if source.startswith("."):
            copy = tmp_path / Path(target).name
            copy.write_bytes((FOLDER / source).read_bytes())
            text = text.replace(target, str(copy))
    token = tmp_path / "token"
    token.write_text("x")
    (tmp_path / "prometheus.yaml").write_text(
        text.replace("/run/secrets/metrics-token", str(token))
    )
    said = promtool("check", "config", "prometheus.yaml", cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(rules())} rules found" in said.stdout
    assert parsed("prometheus.yaml")["scrape_configs"][0]["job_name"] == "fluxhook"


@pytest.mark.parametrize("name", ["datasources", "dashboards"])
def test_grafana_finds_what_is_provisioned(name: str) -> None:
    """The data source is the Prometheus beside it, and the dashboard's folder the one that is
    mounted."""
    service = compose().services["grafana"]
    mounted = mounts(service)
    assert mounted[f"/etc/grafana/provisioning/{name}/fluxhook.yaml"] == f"./grafana/{name}.yaml"
    content = parsed(f"grafana/{name}.yaml")
    assert content["apiVersion"] == 1
    if name == "datasources":
        (source,) = content["datasources"]
        assert source["url"] == "http://prometheus:9090"
        assert source["type"] == "prometheus"
    else:
        (provider,) = content["providers"]
        assert f"{provider['options']['path']}/fluxhook.json" in mounted
