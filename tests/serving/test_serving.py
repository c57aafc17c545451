"""The application, with the services it stands on."""

from __future__ import annotations

from tests.serving.conftest import Client
from tests.serving.services import Services

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def test_prediction_is_answered_by_the_model(client: Client) -> None:
    answer = client.predict("irises", [ROW, {**ROW, "petal_length": 6.0, "petal_width": 2.3}])
    assert (answer.status_code, answer.json()["outputs"], answer.json()["version"]) == (200, [0, 2], "1"), answer.text
