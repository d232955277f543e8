"""What a build is told: its config, and where it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard.api.uris import MODEL_SCHEMES, Location, parse_uri
from modelyard.contract import codes
from modelyard.contract.build import BuildConfig
from modelyard.contract.configfile import ConfigError, read_config
from modelyard_models.download import text_key
from modelyard_models.failure import Failure
from modelyard_models.fetch import ENV_SOURCES


@dataclass(frozen=True, slots=True)
class Settings:
    """The config, and its surroundings. Also the place that models are fetched to (modelyard_models.fetch.Place)."""

    config: BuildConfig
    storage: Path
    sources: Path

    @property
    def package(self) -> Path:
        """The package's folder."""
        return self.storage / self.config.package

    @property
    def scratch(self) -> Path:
        """What is downloaded, until it is in place."""
        return self.package / ".fetched"

    @property
    def owner(self) -> str:
        """Of temporary folders: the same for all who build this package, of whom one works at a time."""
        return text_key(self.config.package)[:8]

    def locate(self, uri: str) -> Location:
        """The parts of an address. Raises Failure (InvalidBuildConfig)."""
        try:
            return parse_uri(uri, MODEL_SCHEMES)
        except ValueError as error:
            raise _invalid(str(error)) from error

    def find_claimed(self, location: Location) -> tuple[Path, bool]:
        """Where the path of a pvc:// address is seen here, and whether that is in our own storage."""
        own = self.config.storage.rstrip("/")
        if f"{location.uri}/".startswith(f"{own}/"):
            return self.storage / location.uri.removeprefix(own).strip("/"), True
        return self.sources / "pvc" / location.name / location.path, False


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads config and environment. Raises Failure (InvalidBuildConfig)."""
    try:
        config = read_config(BuildConfig, environment, codes.ENV_BUILD_CONFIG, "build", "server")
    except ConfigError as error:
        raise _invalid(str(error)) from error
    storage = Path(environment.get(codes.ENV_STORAGE, codes.STORAGE_PATH)).resolve()
    if not (storage / config.package).resolve().is_relative_to(storage):
        raise _invalid(f"package {config.package!r} is not below the storage root {storage}")
    return Settings(config, storage, Path(environment.get(ENV_SOURCES, codes.SOURCES_PATH)))


def _invalid(message: str) -> Failure:
    return Failure("InvalidBuildConfig", message)
