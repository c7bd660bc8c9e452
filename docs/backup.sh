#!/bin/sh
# Back up a store, also while runs are at work: who names something is copied before what it names.
#
#   DAGSTER_HOME=... LAKE=... MLFLOW=... docs/backup.sh FOLDER
#
# MLFLOW is the folder of mlflow.db and its artifacts. FOLDER must not exist. PYTHON names a Python, python3 by default.
set -eu
to=$1
mkdir -m 700 "$to" "$to/dagster" "$to/lake" "$to/mlflow"

snapshot() {  # a database as it is at one moment, writers or not
  [ -e "$1/$3" ] || return 0
  mkdir -p "$(dirname "$2/$3")"
  "${PYTHON:-python3}" -c 'import sqlite3, sys
source, copy = map(sqlite3.connect, sys.argv[1:])
source.backup(copy)' "$1/$3" "$2/$3"
}

# MLflow names materializations, the event log names table versions, their commits name files
snapshot "$MLFLOW" "$to/mlflow" mlflow.db
for database in schedules/schedules.db event_log.db history/runs.db runs.db; do
  snapshot "$DAGSTER_HOME" "$to/dagster" "$database"
done
cp "$DAGSTER_HOME/dagster.yaml" "$to/dagster/"
# _last_checkpoint is a hint that may be ahead of the files that were listed; Delta reads a log without it
(cd "$LAKE" && tar -c --exclude=_last_checkpoint -- */_delta_log) | tar -x -C "$to/lake"
tar -c -C "$LAKE" --exclude=_delta_log . | tar -x -C "$to/lake"
if [ -d "$MLFLOW/artifacts" ]; then cp -a "$MLFLOW/artifacts" "$to/mlflow/"; fi
