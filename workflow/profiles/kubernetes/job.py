"""Submit one job of the pipeline to Kubernetes, and ask what became of it: called by the profile beside this file.

    job.py submit --cpus N --memory MB --minutes N --gpus N SCRIPT     prints the name of the Job
    job.py status NAME                                                 prints running, success or failed

The environment says where it runs: IREPA_IMAGE (an image with the package), IREPA_CLAIM (the volume claim that holds the working
directory), IREPA_MOUNT (where the claim is mounted, here and in the pods; default: the working directory). ``--print`` shows the
Job instead of submitting it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any


def manifest(arguments: argparse.Namespace) -> dict[str, Any]:
    """A Job that runs the script once; it is Snakemake that tries again."""
    folder = os.getcwd()
    amounts: dict[str, Any] = {"cpu": arguments.cpus, "memory": f"{arguments.memory}Mi"}
    limits = amounts | ({"nvidia.com/gpu": arguments.gpus} if arguments.gpus else {})
    container = {
        "name": "irepa",
        "image": os.environ["IREPA_IMAGE"],
        "command": ["bash", os.path.abspath(arguments.script)],
        "workingDir": folder,
        "resources": {"requests": amounts, "limits": limits},
        "volumeMounts": [{"name": "work", "mountPath": os.environ.get("IREPA_MOUNT", folder)}],
    }
    pod = {
        "restartPolicy": "Never",
        # A training job writes a checkpoint when it is asked to stop.
        "terminationGracePeriodSeconds": 300,
        "containers": [container],
        "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": os.environ["IREPA_CLAIM"]}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "irepa-"},
        "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 60 * arguments.minutes, "template": {"spec": pod}},
    }


def submit(arguments: argparse.Namespace) -> str:
    for name in ("IREPA_IMAGE", "IREPA_CLAIM"):
        if name not in os.environ:
            sys.exit(f"{name} is not set: it names the {'image' if 'IMAGE' in name else 'volume claim'} of the jobs")
    text = json.dumps(manifest(arguments), indent=2)
    if arguments.print:
        return text
    created = subprocess.run(
        ["kubectl", "create", "-f", "-", "-o", "jsonpath={.metadata.name}"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return created.stdout.strip()


def status(arguments: argparse.Namespace) -> str:
    found = subprocess.run(
        ["kubectl", "get", "job", arguments.name, "-o", "json"], capture_output=True, text=True, check=True
    )
    state = json.loads(found.stdout).get("status", {})
    return "success" if state.get("succeeded") else "failed" if state.get("failed") else "running"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("submit")
    for name in ("cpus", "memory", "minutes", "gpus"):
        one.add_argument(f"--{name}", type=int, required=True)
    one.add_argument("--print", action="store_true")
    one.add_argument("script")
    one.set_defaults(run=submit)
    other = commands.add_parser("status")
    other.add_argument("name")
    other.set_defaults(run=status)
    arguments = parser.parse_args()
    print(arguments.run(arguments))


if __name__ == "__main__":
    main()
