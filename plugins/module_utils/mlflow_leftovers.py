# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs, models and artifacts that proofs leave in MLflow, of which only the newest stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Marks runs as made by a proof, so that runs of other people in an experiment of the same name are left alone.
TAG = "mlfleet_verify"
AT_ONCE = 1000  # runs; more go with the next proof


class LeftoverError(Exception):
    """A run of an earlier proof cannot be deleted."""


def tags(name: str) -> dict[str, str]:
    """Return the tags of a run of a proof."""
    return {TAG: name}


def delete(client: Any, repository: Callable[[str], Any], name: str, kept: int) -> int:
    """Delete the runs of the proof with their models and artifacts, except the newest; return how many.

    The run itself goes last, so that the next proof completes a deletion that was interrupted.

    :param client: MLflow's client, as an account that may delete all of these
    :param repository: MLflow's access to the artifacts at a URI
    :param name: of the experiment and of the registered model
    :param kept: how many runs stay
    :raises LeftoverError: MLflow or the object storage refuses
    """
    experiment = client.get_experiment_by_name(name)
    experiments = [experiment.experiment_id] if experiment else []
    if not experiments:
        return 0
    marked, newest_first = f"tags.{TAG} = '{name}'", ["attributes.start_time DESC"]
    old = client.search_runs(experiments, marked, order_by=newest_first, max_results=AT_ONCE)[kept:]
    for run in old:
        of_run = run.info.run_id
        try:
            for version in client.search_model_versions(f"name = '{name}' and run_id = '{of_run}'"):
                client.delete_model_version(name, version.version)
            for model in client.search_logged_models(experiments, f"source_run_id = '{of_run}'"):
                repository(model.artifact_location).delete_artifacts()
                client.delete_logged_model(model.model_id)
            repository(run.info.artifact_uri).delete_artifacts()
            client.delete_run(of_run)
        except Exception as error:  # whatever MLflow, boto3 and their libraries raise
            told = f"run {of_run} of an earlier one cannot be deleted: {error}"
            raise LeftoverError(f"the proof succeeded, but {told}") from error
    return len(old)
