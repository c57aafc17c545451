# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares inputs with the signature of a model, and converts them to what the model takes.

Inputs are a list of rows: objects by column, or lists in the order of the columns. A model of tensors takes nested
lists, or an object of them by name.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema, TensorSpec

SHOWN = 5  # of the errors


class InputError(ValueError):
    """Inputs that the model cannot take; the message has all reasons in one line."""

    def __init__(self, reasons: list[str]) -> None:
        further = [f"and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
        super().__init__("; ".join(reasons[:SHOWN] + further))


def storable(value: Any) -> str:
    """Make JSON that PostgreSQL takes, which is stricter than Python.

    :raises InputError: a number is not finite, or a text has a character that no text may have
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise InputError(["half of a surrogate pair is no text"]) from None
    except ValueError:
        raise InputError(["numbers must be finite"]) from None
    if re.search(r"(?<!\\)(\\\\)*\\u0000", text):
        raise InputError(["the character U+0000 cannot be stored"])
    return text


def convert(inputs: Any, signature: ModelSignature) -> Any:
    """Make a data frame of rows, or arrays of tensors.

    :raises InputError: they do not fit the signature
    """
    schema: Schema = signature.inputs
    if schema.is_tensor_spec():
        return _tensors(inputs, schema)
    if not isinstance(inputs, list) or not inputs:
        raise InputError(["inputs must be a list of at least one row"])
    columns = cast("list[ColSpec]", schema.inputs)
    is_named = schema.has_input_names()
    if all(isinstance(row, dict) for row in inputs):
        if not is_named:
            raise InputError(["rows must be lists, because the columns of the model have no names"])
        return _frame(inputs, [column.name for column in columns], columns)
    if not all(isinstance(row, list) for row in inputs):
        raise InputError(["rows must be all objects or all lists"])
    names = [column.name for column in columns] if is_named else list(range(len(columns)))
    if wrong := [n for n, row in enumerate(inputs) if len(row) != len(names)]:
        raise InputError([f"row {n} has {len(inputs[n])} values, not {len(names)}" for n in wrong])
    return _frame([dict(zip(names, row, strict=True)) for row in inputs], names, columns)


def _frame(rows: list[dict[Any, Any]], names: list[Any], columns: list[ColSpec]) -> pd.DataFrame:
    """Make one column a name."""
    specs = dict(zip(names, columns, strict=True))
    required = {name for name, spec in specs.items() if spec.required}
    reasons = []
    for number, row in enumerate(rows):
        reasons += [f"row {number} lacks column {name}" for name in names if name in required and name not in row]
        reasons += [f"row {number} has the unknown column {name}" for name in row if name not in specs]
    if reasons:
        raise InputError(reasons)
    frame = {}
    for name, spec in specs.items():
        frame[name] = _column(name, [row.get(name) for row in rows], spec, reasons)
    if reasons:
        raise InputError(reasons)
    return pd.DataFrame({name: column for name, column in frame.items() if name in required or column.notna().any()})


def _column(name: Any, values: list[Any], spec: ColSpec, reasons: list[str]) -> pd.Series:
    if not isinstance(spec.type, DataType):
        return pd.Series(values, dtype=object)  # of lists and objects, which MLflow compares
    convert_one, nullable = _TYPES[spec.type], spec.type in (DataType.float, DataType.double)
    converted = []
    for number, value in enumerate(values):
        if value is None and (nullable or not spec.required):
            converted.append(math.nan if nullable else None)
            continue
        try:
            converted.append(convert_one(value))
        except (TypeError, ValueError, OverflowError):
            reasons.append(f"row {number}, column {name}: {spec.type.name} expected, not {_short(value)}")
    missing = any(value is None for value in converted)
    return pd.Series(converted, dtype=object if missing or reasons else spec.type.to_pandas())


def _tensors(inputs: Any, schema: Schema) -> Any:
    specs = cast("list[TensorSpec]", schema.inputs)
    if not schema.has_input_names():
        return _tensor("inputs", inputs, specs[0])
    by_name = {str(spec.name): spec for spec in specs}
    if not isinstance(inputs, dict) or inputs.keys() != by_name.keys():
        raise InputError([f"inputs must be an object of the tensors {', '.join(by_name)}"])
    return {name: _tensor(name, inputs[name], spec) for name, spec in by_name.items()}


def _tensor(name: str, values: Any, spec: TensorSpec) -> np.ndarray[Any, Any]:
    try:
        found = np.array(values)
    except ValueError:
        raise InputError([f"{name} is not rectangular"]) from None
    kinds = {"f": "fiu", "i": "iu", "u": "iu"}.get(spec.type.kind, spec.type.kind)
    if found.dtype.kind not in kinds:
        raise InputError([f"{name}: {spec.type} expected"])
    if len(found.shape) != len(spec.shape) or any(
        want not in (-1, has) for want, has in zip(spec.shape, found.shape, strict=True)
    ):
        raise InputError([f"{name} has shape {found.shape}, not {tuple(spec.shape)}; -1 is any number"])
    return found.astype(spec.type)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(bits: int) -> Callable[[Any], int]:
    def convert_one(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise TypeError
        return value

    return convert_one


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_TYPES: dict[DataType, Callable[[Any], Any]] = {
    DataType.boolean: _boolean,
    DataType.integer: _whole(32),
    DataType.long: _whole(64),
    DataType.float: _number,
    DataType.double: _number,
    DataType.string: _string,
    DataType.binary: lambda value: base64.b64decode(_string(value), validate=True),
    DataType.datetime: lambda value: datetime.fromisoformat(_string(value)),
}


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def plain_text(text: str) -> str:
    """Replace what PostgreSQL does not take as text."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def plain(outputs: Any) -> Any:
    """Make JSON of what a model returned; what is no number there (NaN, infinity) becomes null."""
    if isinstance(outputs, pd.DataFrame):
        return plain(outputs.to_dict(orient="records"))
    if isinstance(outputs, np.ndarray | pd.Series | np.generic):
        return plain(outputs.tolist())
    if isinstance(outputs, Mapping):
        return {plain_text(str(key)): plain(value) for key, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return [plain(value) for value in outputs]
    if isinstance(outputs, float):
        return outputs if math.isfinite(outputs) else None
    return outputs if isinstance(outputs, int | bool | None) else plain_text(str(outputs))
