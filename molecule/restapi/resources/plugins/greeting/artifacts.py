import json
from pathlib import Path

from dioptra.sdk.api.artifact import ArtifactTaskInterface


class Greeting(ArtifactTaskInterface):
    @staticmethod
    def serialize(working_dir: Path, name: str, contents: dict, **_options) -> Path:
        path = (working_dir / name).with_suffix(".json")
        path.write_text(json.dumps(contents))
        return path

    @staticmethod
    def deserialize(working_dir: Path, path: str, **_options) -> dict:
        return json.loads((working_dir / path).read_text())
