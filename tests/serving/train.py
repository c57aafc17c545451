"""Registers models: `irises`, two versions of scikit-learn, and `odd`, which does what it is asked.

Run by the Python of constraints/mlflow.txt, as a person's training would.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from mlflow.types.schema import ColSpec, Schema
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB


class Odd(mlflow.pyfunc.PythonModel):
    """Sleeps, fails, or ends its process and that of the worker."""

    def predict(self, context, model_input, params=None):
        del context, params
        row = model_input.iloc[0]
        time.sleep(row["seconds"])
        if row["action"] == "fail":
            raise ValueError("the iris has withered\nhere are its leaves")
        if row["action"] == "end":
            os.kill(os.getpid(), signal.SIGKILL)
        if row["action"] == "nul":
            return ["a\0b", float("nan")]
        return model_input["seconds"] * 2


def main(directory: str) -> None:
    data = load_iris(as_frame=True)
    frame, target = data.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_")), data.target
    client = mlflow.MlflowClient()
    for model in LogisticRegression(max_iter=500), GaussianNB():
        model.fit(frame, target)
        signature = infer_signature(frame, model.predict(frame))
        options = {"signature": signature, "pip_requirements": ["scikit-learn"]}
        mlflow.sklearn.log_model(model, name="model", registered_model_name="irises", **options)
    mlflow.sklearn.save_model(model, directory, **options)
    schema = Schema([ColSpec("double", "seconds"), ColSpec("string", "action")])
    mlflow.pyfunc.log_model(
        name="model",
        python_model=Odd(),
        registered_model_name="odd",
        signature=mlflow.models.ModelSignature(inputs=schema),
        pip_requirements=["pandas"],
    )
    mlflow.pyfunc.log_model(
        name="model", python_model=Odd(), registered_model_name="unsigned", pip_requirements=["pandas"]
    )
    client.set_registered_model_alias("unsigned", "champion", "1")
    for name, alias, version in ("irises", "champion", 1), ("irises", "challenger", 2), ("odd", "champion", 1):
        client.set_registered_model_alias(name, alias, str(version))
    pd.DataFrame({"row": frame.values.tolist()[::10]}).to_json(f"{directory}/rows.json", orient="records")


if __name__ == "__main__":
    main(sys.argv[1])
