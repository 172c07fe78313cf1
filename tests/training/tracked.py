"""Curves as the real clients read what a tracker has recorded, and dvclive's."""

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from softprompt.training.trackers import PROJECT

NAME = "grid-1"  # of the experiment
CURVES = {"train/loss": "loss", "learning_rate": "learning_rate", "validation/loss": "loss"}  # and dvclive's columns
Curve = dict[int, float]


def recorded(folder: Path) -> dict[str, Curve]:
    """What dvclive has recorded."""
    curves = {}
    for name, column in CURVES.items():
        table = pd.read_csv(folder / f"results/train/plots/metrics/{name}.tsv", sep="\t")
        curves[name] = dict(zip(table["step"].tolist(), table[column].tolist(), strict=True))
    return curves


def of_tensorboard(folder: Path) -> dict[str, Curve]:
    (run,) = (folder / "tensorboard").glob(f"{NAME}_*")
    events = EventAccumulator(str(run)).Reload()
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in CURVES}


def of_wandb(folder: Path) -> dict[str, Curve]:
    """Of the file that `wandb sync` uploads."""
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    curves: dict[str, Curve] = {name: {} for name in CURVES}
    for data in wandb_records(file.read_bytes()):
        # wandb has no public reader of its files without a server.
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            found = {"".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            for name in CURVES & found.keys():
                curves[name][int(found["_step"])] = float(found[name])
    return curves


def wandb_records(data: bytes) -> Iterator[bytes]:
    """Of LevelDB's log format: blocks of 32 KiB with parts of records, each after a checksum, its length and kind."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def of_mlflow(folder: Path) -> dict[str, Curve]:
    client, (run,) = runs_of_mlflow(f"sqlite:///{folder}/mlflow.db")
    assert (run.info.run_name, run.info.status) == (NAME, "FINISHED")
    return mlflow_curves(client, run)


def runs_of_mlflow(address: str) -> tuple:
    from mlflow import MlflowClient

    client = MlflowClient(address, address)
    (experiment,) = client.search_experiments(filter_string=f"name = '{PROJECT}'")
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def mlflow_curves(client, run) -> dict[str, Curve]:
    found = {name: client.get_metric_history(run.info.run_id, name) for name in CURVES}
    curves = {name: {metric.step: metric.value for metric in metrics} for name, metrics in found.items()}
    assert {name: len(curve) for name, curve in curves.items()} == {name: len(of) for name, of in found.items()}, (
        "twice"
    )
    return curves


def of_trackio(folder: Path) -> dict[str, Curve]:
    """By its command: the package keeps the folder that it was first imported with."""
    command = ["trackio", "get", "metric", "--json", "--project", PROJECT, "--run", NAME, "--metric"]
    environ = {**os.environ, "TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}
    curves = {}
    for name in CURVES:
        found = json.loads(subprocess.check_output([*command, name], env=environ, text=True))
        curves[name] = {value["step"]: value["value"] for value in found["values"]}
    return curves
